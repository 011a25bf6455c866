/**
 * @file Three thousand backends, for what is to stay smooth and small with many.
 */

export const COUNT = 3_000;

/** Figures that differ from second to second. */
export function fleet(second) {
  return Array.from({ length: COUNT }, (_, at) => ({
    ip: `10.1.${Math.floor(at / 250)}.${(at % 250) + 1}`,
    port: 9001,
    weight: 10,
    gpu_usage: ((at + second) % 100) / 100,
    vram_usage: ((at * 7 + second) % 100) / 100,
  }));
}
