// Successes and trials per group from text that was pasted, typed or loaded, and what is wrong with it.
// Rules and sentences are those of fieldguide.counts_table; text without a line of names is taken, too.
"use strict";
((explorer) => {
  const counts = (explorer.counts ??= {});
  const MOST_GROUPS = 500;
  const MOST_TRIALS = 1e9;
  const MOST_BYTES = 4 * 2 ** 20;

  const words = (text) => text.split(" ");
  const NAMES = {
    successes: words("successes success y k events event users hits cases positives positive conversions " +
      "wins responders deaths died passed converted yes"),
    failures: words("failures failure fails failed non_events nonevents losses negatives no"),
    trials: words("trials trial n total totals women size attempts tested patients visitors persons people " +
      "participants exposed at_bats denominator"),
    group: words("group groups district site school hospital centre center county region clinic unit name " +
      "id player batch store country state cluster arm"),
  };
  const MISSING = ["", "nan", "na", "n/a", "none", "null", "nat", "<na>", ".", "-"];
  const FOREIGN = [
    ["PK\x03\x04", "an Excel workbook or another archive"], ["PAR1", "a Parquet file"],
    ["\x1f\x8b", "a compressed file"], ["%PDF", "a PDF"], ["\x89PNG", "a picture"],
    ["\xd0\xcf\x11\xe0", "an old Excel workbook"], ["RDX", "an R workspace"],
    ["\xff\xfe", "text in UTF-16"], ["\xfe\xff", "text in UTF-16"], ["<!do", "a web page"],
    ["<htm", "a web page"],
  ];

  /** A table of counts is not what it should be: row, column, value and what was expected. */
  class CountsError extends Error {
    constructor(message, { row = null, column = null, value = null, expected, kind = "table" }) {
      super(message);
      Object.assign(this, { name: "CountsError", row, column, value, expected, kind });
    }
  }

  const repr = (text) => counts.numbers.repr(text);
  const cut = (text) => (text.length <= 30 ? text : `${text.slice(0, 27)}...`);

  function listed(names) {
    const shown = names.slice(0, 12).map(repr);
    if (names.length > 12) shown.push(`${names.length - 12} more`);
    return shown.length === 1 ? shown[0] : `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}`;
  }

  /** Text of a file's bytes, or a refusal; name is the file's. */
  function decode(bytes, name) {
    const refuse = (what, expected) => {
      throw new CountsError(`${name}: ${what}`, { expected, kind: "file" });
    };
    const csv = "a table as CSV in UTF-8";
    if (bytes.length > MOST_BYTES) {
      refuse(`${(bytes.length / 2 ** 20).toFixed(0)} MiB are more than ${MOST_BYTES / 2 ** 20}; count the ` +
        "successes and trials of each group first, and give that table.", "a smaller table");
    }
    const head = String.fromCharCode(...bytes.subarray(0, 8)), small = head.toLowerCase();
    for (const [start, what] of FOREIGN) {
      if (head.startsWith(start) || (start[0] === "<" && small.startsWith(start))) {
        refuse(`this is ${what}; save the table as CSV in UTF-8.`, csv);
      }
    }
    if (bytes.includes(0)) {
      refuse("this is no text, or it is damaged; save the table as CSV in UTF-8.", csv);
    }
    const start = (end) => { // text of the whole characters before, or null
      try {
        const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
        return decoder.decode(bytes.subarray(0, end), { stream: true });
      } catch {
        return null;
      }
    };
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch {
      let low = 0, high = bytes.length + 1;
      while (high - low > 1) {
        const middle = (low + high) >> 1;
        if (start(middle) !== null) low = middle;
        else high = middle;
      }
      const at = new TextEncoder().encode(start(low)).length;
      return refuse(`byte ${at} is not UTF-8 text; save the table as CSV in UTF-8.`, csv);
    }
  }

  /** Cells of separated text: [{line, cells, text}], lines counted from 1, empty ones left out. */
  function split(text, separator, where) {
    const rows = [], blank = separator === " ";
    let cells = [], cell = "", closed = false, line = 1, start = 1, from = 0, quote = 0;
    const endCell = () => {
      cells.push(closed ? cell : cell.trim());
      cell = "";
      closed = false;
    };
    const endRow = (at) => {
      endCell();
      const raw = text.slice(from, at).trim();
      if (cells.some((c) => c.trim() !== "")) rows.push({ line: start, cells, text: raw });
      cells = [];
    };
    for (let i = 0; i <= text.length; i++) {
      const c = text[i];
      if (quote) {
        if (c === undefined) {
          throw new CountsError(`${where(quote)}: a quotation mark is not closed; close it, or take it out.`,
            { row: quote, value: cut(cell), expected: "a closing quotation mark" });
        }
        if (c === '"' && text[i + 1] === '"') cell += text[++i];
        else if (c === '"') {
          quote = 0;
          closed = true;
        } else {
          if (c === "\n") line++;
          cell += c;
        }
      } else if (c === '"' && cell.trim() === "" && !closed) {
        cell = "";
        quote = line;
      } else if (c === undefined || c === "\n") {
        endRow(i);
        line++;
        start = line;
        from = i + 1;
      } else if (c === separator || (blank && /\s/.test(c))) {
        if (!blank || cell !== "" || closed) {
          if (!blank || /\S/.test(text.slice(i).split("\n", 1)[0])) endCell();
        }
      } else if (!closed || /\S/.test(c)) cell += c;
    }
    return rows;
  }

  const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
  function number(cell) {
    const text = cell.trim();
    if (NUMBER.test(text)) return Number(text);
    return /^[+-]?inf(inity)?$/i.test(text) ? (text[0] === "-" ? -Infinity : Infinity) : NaN;
  }

  /**
   * Counts of a table in text.
   *
   * options: file (its name), columns {group, successes, trials, failures} (names, where they cannot
   *   be guessed), addUp (whether rows of one group are added up).
   * Returns {group, successes, trials, called, path, separator, header, rows (line of each group),
   *   notes}; throws CountsError.
   */
  function readCounts(text, options = {}) {
    const { file = null, columns: wanted = {}, addUp = false } = options;
    const place = file === null ? "" : `${file}: `;
    const where = (line) => (file === null ? `Row ${line}` : `${file}, row ${line}`);
    const fail = (message, about) => {
      throw new CountsError(message, about);
    };
    const capital = (sentence) => (place ? place + sentence : sentence[0].toUpperCase() + sentence.slice(1));
    const clean = text.replace(/^\ufeff/, "").replace(/\r\n?/g, "\n");
    const perGroup = "one row per group: name, successes, trials";
    if (clean.trim() === "") {
      fail(file === null ? "There is no table yet; give at least one group."
        : `${place}the file is empty; give a table with at least one group.`, { expected: perGroup, kind: "empty" });
    }
    const top = clean.split("\n").find((line) => line.trim() !== "");
    let separator = ",", most = 0;
    for (const one of ",;\t|") {
      const times = top.split(one).length - 1;
      if (times > most) [separator, most] = [one, times];
    }
    if (most === 0 && /\S\s+\S/.test(top)) separator = " ";
    let rows = split(clean, separator, where);
    const header = rows[0].cells.every((cell) => Number.isNaN(number(cell)));
    const width = rows[0].cells.length;
    let names;
    if (header) {
      names = rows[0].cells.map((name) => name.trim());
      rows = rows.slice(1);
      const twice = names.find((name, k) => names.indexOf(name) < k);
      if (twice !== undefined) {
        fail(capital(`the column ${repr(twice)} comes twice; rename one of the two.`),
          { row: 1, value: twice, expected: "columns with different names", kind: "columns" });
      }
    }
    if (rows.length === 0) {
      fail(capital("there are no rows; give at least one group."), { expected: perGroup, kind: "empty" });
    }
    for (const row of rows) {
      while (row.cells.length > width && row.cells.at(-1).trim() === "") row.cells.pop();
      if (row.cells.length > width) {
        const hint = separator === "," ? "write numbers without separators of thousands or decimal commas, and " +
          "names that hold a comma in quotation marks" : "take the others out";
        fail(`${where(row.line)}: ${repr(cut(row.text))} has ${row.cells.length} cells, where the first row has ` +
          `${width}; ${hint}.`, { row: row.line, value: row.text, expected: `${width} cells` });
      }
      while (row.cells.length < width) row.cells.push("");
    }
    const notes = [];
    let columns;
    if (header) columns = roles(names, rows, wanted, capital, fail);
    else [names, columns] = positions(rows, width, where, fail);
    if (!header) {
      const order = names.map((name) => (name === "group" ? "group" : name)).join(", ");
      notes.push(`Without a line of names, the columns were taken as ${order}.`);
    }
    return counted(rows, names, columns, { where, capital, fail, addUp, file, separator, header, notes });
  }

  /** Which column has which role, by its name. */
  function roles(there, rows, wanted, capital, fail) {
    const found = {}, free = () => there.filter((name) => !Object.values(found).includes(name));
    const columns = (message, expected, candidates = there) =>
      fail(capital(message), { row: 1, value: there.join(", "), expected, kind: "columns", candidates });
    for (const role of ["group", "successes", "trials", "failures"]) {
      const name = wanted[role];
      if (name === undefined || name === null) continue;
      if (!there.includes(name)) {
        columns(`there is no column ${repr(name)} for the ${role}; the columns are ${listed(there)}.`,
          `a column for the ${role}`);
      }
      found[role] = name;
    }
    for (const role of ["successes", "trials", "failures", "group"]) {
      if (role in found || (role === "failures" && "trials" in found)) continue;
      if (role === "trials" && "failures" in found) continue;
      const likely = free().filter((name) => NAMES[role].includes(name.trim().toLowerCase().replaceAll(" ", "_")));
      if (likely.length > 1) {
        columns(`${listed(likely)} may all hold the ${role}; say which, such as ${role}=${repr(likely[0])}.`,
          `one column for the ${role}`, likely);
      }
      if (likely.length) found[role] = likely[0];
    }
    if (!("successes" in found)) {
      columns(`no column is named like successes; the columns are ${listed(there)}. Say which it is, such as ` +
        `successes=${repr(there.at(-1))}.`, "a column for the successes");
    }
    if (!("group" in found)) {
      const left = free();
      const texts = left.filter((name) => {
        const k = there.indexOf(name);
        return rows.every((row) => Number.isNaN(number(row.cells[k])));
      });
      if (texts.length === 1 || (left.length === 1 && !texts.length)) found.group = (texts[0] ?? left[0]);
      else if (texts.length > 1) {
        columns(`${listed(texts)} may all hold the groups; say which, such as group=${repr(texts[0])}.`,
          "one column for the groups", texts);
      } else if (left.length) {
        columns(`no column is named like groups; the columns are ${listed(there)}. Say which it is, such as ` +
          `group=${repr(left[0])}.`, "a column for the groups", left);
      }
    }
    return Object.fromEntries(Object.entries(found).map(([role, name]) => [role, there.indexOf(name)]));
  }

  /** Roles of columns without names: group, successes, trials, or the last two of them. */
  function positions(rows, width, where, fail) {
    if (width === 2) return [["successes", "trials"], { successes: 0, trials: 1 }];
    if (width !== 3) {
      const { line, text } = rows[0];
      fail(`${where(line)}: ${repr(cut(text))} has ${width === 1 ? "1 cell" : `${width} cells`}; give group, ` +
        "successes and trials in each row, or a first row with the names of the columns.",
        { row: line, value: text, expected: "group, successes, trials" });
    }
    const texts = [0, 1, 2].filter((k) => rows.every((row) => Number.isNaN(number(row.cells[k]))));
    const group = texts.length === 1 ? texts[0] : 0, [successes, trials] = [0, 1, 2].filter((k) => k !== group);
    const names = [];
    for (const [role, k] of Object.entries({ group, successes, trials })) names[k] = role;
    return [names, { group, successes, trials }];
  }

  /** A column's counts, or a refusal of the first cell that is none. */
  function whole(rows, k, column, { where, fail }) {
    const values = rows.map((row) => number(row.cells[k]));
    const bad = (v) => !(Number.isFinite(v) && v >= 0 && v === Math.round(v) && v <= MOST_TRIALS);
    const count = values.filter(bad).length;
    if (!count) return values.map((v) => v + 0);
    const at = values.findIndex(bad), value = values[at], text = rows[at].cells[k].trim();
    const more = count > 1 ? ` (${count - 1} more such cells)` : "";
    const start = `${where(rows[at].line)}, column ${column}`;
    const refuse = (rest, expected = "a whole number from 0 on") =>
      fail(`${start}: ${rest}${more}.`, { row: rows[at].line, column, value: text, expected, kind: "cell" });
    if (MISSING.includes(text.toLowerCase())) refuse("the count is missing; fill it in or leave the row out");
    if (Number.isNaN(value)) {
      const thousands = /^\d{1,3}([ ,.'\u00a0\u2009\u202f]\d{3})+$/.test(text);
      const hint = thousands ? "write it without separators of thousands"
        : /^[+-]?\d*,\d+$/.test(text) ? "give whole counts, not rates, and no decimal comma" : "give a whole number";
      refuse(`${repr(cut(text))} is not a count; ${hint}`);
    }
    if (!Number.isFinite(value)) refuse("an infinite count; give a whole number");
    if (value < 0) refuse(`${text} is a negative count; counts start at 0`);
    if (value !== Math.round(value)) refuse(`${text} is a fraction; give whole counts, not rates`);
    return refuse(`${text} is more than 1e+09; give counts in a larger unit`, "at most 1000000000");
  }

  function counted(rows, there, columns, how) {
    const { where, capital, fail, addUp, file, separator, header, notes } = how;
    const called = "group" in columns && header ? there[columns.group] : "group";
    let names = rows.map((row, j) => {
      if (!("group" in columns)) return String(j + 1);
      const name = row.cells[columns.group].trim();
      if (name === "") {
        fail(`${where(row.line)}, column ${called}: the group has no name; give it one.`,
          { row: row.line, column: called, value: "", expected: "a name", kind: "cell" });
      }
      return name;
    });
    const column = (role) => there[columns[role]];
    let y = whole(rows, columns.successes, column("successes"), how), n;
    let plain = header && "group" in columns && separator !== " ";
    if ("trials" in columns) n = whole(rows, columns.trials, column("trials"), how);
    else if ("failures" in columns) {
      n = whole(rows, columns.failures, column("failures"), how).map((failures, j) => y[j] + failures);
      notes.push("Trials are successes and failures together.");
      plain = false;
    } else {
      n = single(there, names, y, column("successes"), how);
      plain = false;
    }
    const over = y.map((v, j) => v > n[j]), overs = over.filter(Boolean).length;
    if (overs) {
      const at = over.indexOf(true), more = overs > 1 ? ` (${overs - 1} more such rows)` : "";
      const trials = "trials" in columns ? column("trials") : "trials";
      fail(`${where(rows[at].line)} (group ${cut(names[at])}): ${y[at]} successes in ${n[at]} trials; check ` +
        `that the columns ${repr(column("successes"))} and ${repr(trials)} were not exchanged${more}.`,
        { row: rows[at].line, value: `${y[at]} of ${n[at]}`, expected: "at most as many successes as trials",
          kind: "cell" });
    }
    let lines = rows.map((row) => row.line);
    const place = new Map(), again = [];
    names.forEach((name, j) => (place.has(name) ? again.push(j) : place.set(name, place.size)));
    if (again.length) {
      if (!addUp) {
        const at = again[0];
        fail(`${where(rows[at].line)}: the group ${repr(cut(names[at]))} comes a second time (${again.length} ` +
          "rows do so); if its rows belong together, let them be added up, else give them different names.",
          { row: rows[at].line, column: called, value: names[at], expected: "one row per group",
            kind: "duplicate" });
      }
      const sums = [...place.keys()].map(() => [0, 0]);
      names.forEach((name, j) => {
        sums[place.get(name)][0] += y[j];
        sums[place.get(name)][1] += n[j];
      });
      notes.push(`${rows.length} rows were added up to ${sums.length} groups.`);
      lines = [...place.keys()].map((name) => lines[names.indexOf(name)]);
      names = [...place.keys()];
      [y, n] = [0, 1].map((k) => sums.map((sum) => sum[k]));
      plain = false;
    }
    if (names.length > MOST_GROUPS) {
      fail(capital(`${names.length} groups are more than ${MOST_GROUPS}; take a sample of them.`),
        { value: String(names.length), expected: `at most ${MOST_GROUPS} groups`, kind: "size" });
    }
    if (!n.some((v) => v > 0)) {
      fail(capital("no group has a trial; the table says nothing."),
        { value: "0", expected: "at least one trial" });
    }
    return {
      group: names, successes: y, trials: n,
      called: {
        group: called, successes: header ? column("successes") : "successes",
        trials: header && "trials" in columns ? column("trials") : "trials",
      },
      path: plain ? file : null, file, separator, header, lines, notes,
    };
  }

  /** Trials of a table without them: ones, where each row is a person and rows are added up. */
  function single(there, names, y, successes, { capital, fail, addUp }) {
    const different = new Set(names).size;
    const about = { row: 1, value: there.join(", "), expected: "a column for the trials", kind: "columns",
      candidates: there };
    if (Math.max(...y) > 1 || different === names.length) {
      fail(capital(`no column is named like trials or failures; the columns are ${listed(there)}. Say which it ` +
        `is, such as trials=${repr(there.at(-1))}.`), about);
    }
    if (!addUp) {
      fail(capital(`there are no trials, and ${repr(successes)} is 0 or 1 in ${y.length} rows of ${different} ` +
        "groups: one row per person. Let them be counted by group, or say which column has the trials."),
        { ...about, kind: "duplicate" });
    }
    return y.map(() => 1);
  }

  Object.assign(counts, { CountsError, decode, readCounts, columnNames: NAMES });
  if (typeof module === "object") module.exports = explorer;
})((globalThis.fieldguideExplorer ??= {}));
