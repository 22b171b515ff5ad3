// Numbers and strings in words and programs, as fieldguide.report and Python write them.
"use strict";
((explorer) => {
  const counts = (explorer.counts ??= {});

  /** Number with fixed decimals; halves go to the even digit, as in Python. */
  function fixed(value, decimals) {
    const text = value.toFixed(decimals);
    const all = Math.abs(value).toFixed(Math.min(decimals + 60, 100));
    const cut = all.length - (Math.min(decimals + 60, 100) - decimals);
    if (!/^50*$/.test(all.slice(cut))) return text;
    const down = all.slice(0, cut).replace(/\.$/, "");
    return /[02468]$/.test(down) ? (value < 0 ? "-" : "") + down : text;
  }

  /** Number as Python's format "g" writes it, with so many digits that count. */
  function general(value, places) {
    if (value === 0) return "0";
    const [mantissa, exponent] = value.toExponential(places - 1).split("e");
    const power = Number(exponent);
    const strip = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
    if (power >= -4 && power < places) return strip(fixed(value, places - 1 - power));
    return `${strip(mantissa)}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
  }

  /** Number with so many digits that count, and no exponent where it can do without. */
  function digits(value, places = 3) {
    if (!Number.isFinite(value)) return Number.isNaN(value) ? "\u2013" : "infinite";
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (!(size >= 1e-4 && size < 1e7)) return general(value, places).replaceAll("-", "\u2212");
    const decimals = Math.max(places - 1 - Math.floor(Math.log10(size)), 0);
    return fixed(value, decimals).replaceAll("-", "\u2212");
  }

  /** A rate with three decimals, and with more near zero and one. */
  function rate(value) {
    if (Number.isNaN(value)) return "\u2013";
    const rest = Math.min(value, 1 - value);
    const near = Math.min(2 - Math.floor(Math.log10(Math.max(rest, 1e-9))), 9);
    return fixed(value, rest >= 0.01 || rest === 0 ? 3 : near);
  }

  const percent = (value) => `${fixed(100 * value, 0)}%`;

  /** String as Python's repr writes it. */
  function repr(text) {
    const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
    const known = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", [quote]: `\\${quote}` };
    const hex = (code) => code < 256 ? `\\x${code.toString(16).padStart(2, "0")}`
      : code < 65536 ? `\\u${code.toString(16).padStart(4, "0")}`
        : `\\U${code.toString(16).padStart(8, "0")}`;
    const each = (c) => known[c] ?? (c !== " " && /[\p{C}\p{Z}]/u.test(c) ? hex(c.codePointAt(0)) : c);
    return quote + Array.from(text, each).join("") + quote;
  }

  /** String between double quotes, in ASCII, as Python's json.dumps writes it. */
  const quoted = (text) =>
    JSON.stringify(text).replace(/[\u007f-\uffff]/g, (c) =>
      c === "\u007f" ? c : `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);

  counts.numbers = { digits, fixed, general, percent, quoted, rate, repr };
  if (typeof module === "object") module.exports = explorer;
})((globalThis.fieldguideExplorer ??= {}));
