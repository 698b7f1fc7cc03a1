/**
 * The API client: what the engine makes, and what adapters use beside it.
 *
 * @module
 */

export { createApiClients, type ApiClientOptions } from "./client.ts";
export {
  cursorPages,
  linkPages,
  offsetPages,
  pageNumbers,
  type CursorPagesOptions,
  type LinkPagesOptions,
  type ListFunction,
  type OffsetArguments,
  type OffsetPagesOptions,
  type PageNumberArguments,
  type PageNumbersOptions,
  type PagesOptions,
} from "./pagination.ts";
export { urlPath } from "./path.ts";
