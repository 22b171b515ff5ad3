// Contours of a density on a grid: levels that enclose given shares of it, and lines at a level.
"use strict";
((explorer) => {
  /** Levels above which lie the given shares of what the (evenly spaced) grid holds. */
  function levels(grid, shares) {
    const sorted = grid.flat().sort((a, b) => b - a);
    const total = sorted.reduce((sum, v) => sum + v, 0);
    return shares.map((share) => {
      let sum = 0;
      return sorted.find((v) => (sum += v) >= share * total) ?? 0;
    });
  }

  /**
   * Lines at a level, by marching squares.
   * @param {number[][]} grid values, one array over `xs` for each of `ys`
   * @returns {number[][][]} lines of [x, y]; a closed one ends where it began
   */
  function contours(xs, ys, grid, level) {
    const [columns, rows] = [xs.length, ys.length];
    const mix = (a, b, fa, fb) => a + ((b - a) * (level - fa)) / (fb - fa);
    const across = (i, j) => 2 * (i * columns + j); // names of the edges from (i, j) along x, along y
    const up = (i, j) => across(i, j) + 1;
    const point = (edge) => {
      const i = Math.floor(edge / 2 / columns);
      const j = (edge >> 1) % columns;
      if (edge % 2 === 0) return [mix(xs[j], xs[j + 1], grid[i][j], grid[i][j + 1]), ys[i]];
      return [xs[j], mix(ys[i], ys[i + 1], grid[i][j], grid[i + 1][j])];
    };
    const joins = new Map(); // edge -> the edges that it is joined to
    const connect = (a, b) => {
      for (const [from, to] of [[a, b], [b, a]]) joins.set(from, [...(joins.get(from) ?? []), to]);
    };
    for (let i = 0; i + 1 < rows; i++) {
      for (let j = 0; j + 1 < columns; j++) {
        const corners = [grid[i][j], grid[i][j + 1], grid[i + 1][j + 1], grid[i + 1][j]];
        const above = corners.map((v) => v > level);
        const edges = [across(i, j), up(i, j + 1), across(i + 1, j), up(i, j)];
        const cut = edges.filter((_, k) => above[k] !== above[(k + 1) % 4]);
        if (cut.length === 2) connect(cut[0], cut[1]);
        if (cut.length === 4) {
          const middle = corners.reduce((sum, v) => sum + v, 0) / 4 > level;
          const [a, b, c, d] = cut;
          if (middle === above[0]) [[a, b], [c, d]].forEach((pair) => connect(...pair));
          else [[d, a], [b, c]].forEach((pair) => connect(...pair));
        }
      }
    }
    const lines = [];
    const follow = (start) => {
      const line = [start];
      for (let edge = start; ; ) {
        const [next] = joins.get(edge) ?? [];
        if (next === undefined) break;
        joins.set(edge, joins.get(edge).slice(1));
        const back = joins.get(next);
        back.splice(back.indexOf(edge), 1);
        line.push(next);
        edge = next;
      }
      if (line.length > 1) lines.push(line.map(point));
    };
    // open lines first, from their ends
    for (const [edge, to] of [...joins]) if (to.length === 1 && joins.get(edge).length === 1) follow(edge);
    for (const edge of joins.keys()) if (joins.get(edge).length) follow(edge);
    return lines;
  }

  Object.assign(explorer, { levels, contours });
})((globalThis.fieldguideExplorer ??= {}));
