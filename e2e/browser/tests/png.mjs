/**
 * @file Makes a screenshot small: with a palette of at most 256 colours that differ, the most
 * frequent first, all others being the nearest of these, and without filters, which suits flat areas. As RFC 2083 (PNG) says.
 */

import { deflateSync, inflateSync } from 'node:zlib';

const SIGNATURE_BYTES = 8;
const MAX_COLOURS = 256;
/** Closer than this, as `distance` says, one colour stands for both. */
const NEAR = 60;
/** Of a pixel, as Chromium writes it: red, green, blue. */
const CHANNELS = 3;

/**
 * @param {Buffer} png with 8 bits a channel, red, green and blue, not interlaced
 * @returns {Buffer} the same picture
 */
export function smallPng(png) {
  const { width, height, data } = read(png);
  const pixels = unfilter(inflateSync(data), width * CHANNELS, height);
  const colours = Array.from({ length: width * height }, (_, at) => pixels.readUIntBE(at * CHANNELS, CHANNELS));
  const { palette, indexOf } = paletteOf(colours);
  // Each line begins with the number of its filter: none.
  const lines = Buffer.alloc(height * (width + 1));
  for (const [at, colour] of colours.entries()) {
    lines[Math.floor(at / width) * (width + 1) + 1 + (at % width)] = indexOf(colour);
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  // Bits, and that they are of a palette.
  header.set([8, 3], 8);
  const table = Buffer.from(palette.flatMap((colour) => [colour >> 16, (colour >> 8) & 255, colour & 255]));
  return Buffer.concat([
    png.subarray(0, SIGNATURE_BYTES),
    chunk('IHDR', header),
    chunk('PLTE', table),
    chunk('IDAT', deflateSync(lines, { level: 9 })),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

/** @param {Buffer} png */
function read(png) {
  const parts = [];
  for (let at = SIGNATURE_BYTES; at < png.length; at += 12 + png.readUInt32BE(at)) {
    if (png.toString('latin1', at + 4, at + 8) === 'IDAT') parts.push(png.subarray(at + 8, at + 8 + png.readUInt32BE(at)));
  }
  return { width: png.readUInt32BE(16), height: png.readUInt32BE(20), data: Buffer.concat(parts) };
}

/**
 * @param {Buffer} lines each with the number of its filter before it
 * @param {number} stride bytes of a line
 * @param {number} height lines
 */
function unfilter(lines, stride, height) {
  const pixels = Buffer.alloc(stride * height);
  for (let y = 0; y < height; y += 1) {
    const filter = lines[y * (stride + 1)];
    for (let x = 0; x < stride; x += 1) {
      const at = y * stride + x;
      const left = x >= CHANNELS ? pixels[at - CHANNELS] : 0;
      const above = y > 0 ? pixels[at - stride] : 0;
      const corner = x >= CHANNELS && y > 0 ? pixels[at - stride - CHANNELS] : 0;
      const guess = [0, left, above, (left + above) >> 1, paeth(left, above, corner)][filter];
      pixels[at] = lines[at + y + 1] + guess;
    }
  }
  return pixels;
}

function paeth(left, above, corner) {
  const [toLeft, toAbove, toCorner] = [above - corner, left - corner, left + above - 2 * corner].map(Math.abs);
  if (toLeft <= toAbove && toLeft <= toCorner) return left;
  return toAbove <= toCorner ? above : corner;
}

/** @param {number[]} colours of all pixels */
function paletteOf(colours) {
  const counts = new Map();
  for (const colour of colours) counts.set(colour, (counts.get(colour) ?? 0) + 1);
  /** @type {number[]} */
  const palette = [];
  for (const [colour] of [...counts].sort(([, a], [, b]) => b - a)) {
    if (palette.length === MAX_COLOURS) break;
    // The edges of letters have many shades of one colour; a rare colour must not be lost to them.
    if (!palette.some((other) => distance(other, colour) < NEAR)) palette.push(colour);
  }
  const known = new Map(palette.map((colour, at) => [colour, at]));
  const indexOf = (colour) => {
    if (!known.has(colour)) known.set(colour, nearest(palette, colour));
    return known.get(colour);
  };
  return { palette, indexOf };
}

function nearest(palette, colour) {
  const distances = palette.map((other) => distance(other, colour));
  return distances.indexOf(Math.min(...distances));
}

/** The square of how far apart two colours are. */
function distance(one, other) {
  return [16, 8, 0].reduce((sum, shift) => sum + (((one >> shift) & 255) - ((other >> shift) & 255)) ** 2, 0);
}

function chunk(type, data) {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}

/** @param {Buffer} bytes */
function crc32(bytes) {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb8_8320 : 0);
  }
  return (crc ^ 0xffff_ffff) >>> 0;
}
