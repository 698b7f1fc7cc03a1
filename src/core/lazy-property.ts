/**
 * Properties that are made when they are first read.
 *
 * Most handlers never look at the events of a change, and parsing them costs more than all else that is done for it in
 * this process. To whoever looks, such a property is like any other: of the object itself, enumerable, so that copies,
 * JSON and comparisons have it, and `console.log` shows it. A class with a getter would have none of this.
 *
 * @module
 */

/** What a property is to be made of, until it is. */
interface Cell<Source, Value> {
  source: Source | undefined;
  value: Value | undefined;
  made: boolean;
}

const CELL: unique symbol = Symbol("cell");

interface Holder<Source, Value> {
  readonly [CELL]: Cell<Source, Value>;
}

/** `console.log` of an object with accessors shows `[Getter]`: of these it shows what a copy has. */
const INSPECT = Symbol.for("nodejs.util.inspect.custom");
const SHOWN_AS_COPY: PropertyDescriptor = {
  value(this: object) {
    return { ...this };
  },
};

/**
 * Gives objects a property that `make` makes of a source when it is first read, once. Where it throws, so does reading,
 * and the next reading tries again. An object takes one such property.
 *
 * All objects share one accessor, with which V8 keeps them as fast as others; a closure for each would not.
 */
export function lazyProperty<Name extends string, Source, Value, Base extends object = object>(
  name: Name,
  make: (source: Source, object: Base) => Value,
): <T extends Base>(object: T, source: Source) => T & { readonly [_ in Name]: Value } {
  const accessor: PropertyDescriptor & ThisType<Base & Holder<Source, Value>> = {
    enumerable: true,
    configurable: true,
    get() {
      const cell = this[CELL];
      if (cell.made) return cell.value;
      cell.value = make(cell.source as Source, this);
      cell.source = undefined;
      cell.made = true;
      return cell.value;
    },
    // As one can assign to any property of a plain object.
    set(value: Value) {
      Object.defineProperty(this, name, { value, enumerable: true, configurable: true, writable: true });
    },
  };
  return (object, source) => {
    Object.defineProperty(object, name, accessor);
    Object.defineProperty(object, INSPECT, SHOWN_AS_COPY);
    const cell: Cell<Source, Value> = { source, value: undefined, made: false };
    Object.defineProperty(object, CELL, { value: cell });
    return object as typeof object & { readonly [_ in Name]: Value };
  };
}
