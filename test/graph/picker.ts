/** Choices of a command from the numbers that fast-check gave it. A smaller number is the simpler choice. */
export class Picker {
  private readonly numbers: readonly number[];
  private at: number;

  constructor(numbers: readonly number[]) {
    this.numbers = numbers;
    this.at = 0;
  }

  /** 0 .. below - 1 */
  below(below: number): number {
    return (this.numbers[this.at++ % this.numbers.length] ?? 0) % below;
  }

  /** Once in `n` times; never with a number of 0. */
  oneIn(n: number): boolean {
    return this.below(n) === n - 1;
  }

  /** One of them, or undefined when there is none. */
  of<T>(list: readonly T[]): T | undefined {
    return list[this.below(list.length || 1)];
  }

  /** One of a list that is not empty. */
  from<T>(list: readonly T[]): T {
    return this.of(list)!;
  }
}
