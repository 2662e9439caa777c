  // Units, ticks and axes.
  function unitOf(largest, units) {
    let chosen = units[0];
    for (const unit of units) if (largest >= unit[2]) chosen = unit;
    return chosen; // [size of one, name, from which value on]
  }
  const CLOCK = { 1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36000: "10 h", 360000: "100 h" };
  const TIME = [[1, "s", 0], [60, "min", 180], [3600, "h", 10800]];
  const BYTES = [[1, "B", 0], [1e3, "kB", 1e3], [1e6, "MB", 1e6], [1e9, "GB", 1e9], [1e12, "TB", 1e12]];
  const ENERGY = [[1, "J", 0], [1e3, "kJ", 1e4], [1e6, "MJ", 1e7]];
  const human = (value, units) => {
    if (value === 0) return "0";
    const [size, name] = unitOf(value, units);
    return short(value / size) + "\u00a0" + name;
  };

  // Ticks of our own: Plotly knows neither minutes nor kB, and the axes cannot be zoomed.
  function linearTicks(low, high, size, label, count) {
    const rough = (high - low) / size / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = size * power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    const tickvals = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-9); i++) tickvals.push(i * step);
    return { type: "linear", range: [low, high], tickvals, ticktext: tickvals.map(label) };
  }
  function logTicks(low, high, units) {
    const powers = Array.from({ length: 16 }, (_, power) => 10 ** power);
    const factors = high / low < 50 ? [1, 2, 5] : [1];
    const decimal = powers.flatMap((power) => factors.map((factor) => factor * power));
    const steps = units === TIME ? Object.keys(CLOCK).map(Number) : decimal;
    const ends = [low / 1.4, high * 1.4];
    const tickvals = steps.filter((value) => value >= ends[0] && value <= ends[1]);
    const ticktext = tickvals.map((value) => (units === TIME ? CLOCK[value] : human(value, units)));
    return { type: "log", range: ends.map(Math.log10), tickvals, ticktext };
  }
  const unitTicks = (high, units, count, low = 0) => {
    const [size, name] = unitOf(high, units);
    return linearTicks(low, high, size, (value) => (value === 0 ? "0" : short(value / size) + "\u00a0" + name), count);
  };

  const sum = (down, up) => (number(down) && number(up) ? down + up : null);
  const QUANTITY = {
    time: { of: (point) => point.elapsed_s, target: (run) => run.time_to_target_s, title: "time" },
    bytes: { of: (at) => sum(at.bytes_down, at.bytes_up), target: (run) => run.bytes_to_target, title: "bytes" },
    energy: { of: (point) => point.energy_j, target: (run) => run.joules_to_target, title: "energy" },
    value: { of: (point) => point.value, target: (run) => run.target, title: "score" },
  };
  function axis(kind, values, count, among) {
    const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    if (kind !== "value") {
      const units = { time: TIME, bytes: BYTES, energy: ENERGY }[kind];
      const last = (run) => (run.curve || []).map(QUANTITY[kind].of).filter((value) => value > 0).pop();
      const ends = among.map(last).filter(number);
      // Methods differ by orders of magnitude: on one linear scale the small one would lie on the axis.
      const first = values.reduce((least, value) => (value > 0 ? Math.min(least, value) : least), Infinity);
      if (ends.length && Math.max(...ends) > 8 * Math.min(...ends)) return logTicks(first, high, units);
      return unitTicks(high * 1.03 || 1, units, count);
    }
    const percent = shares(among);
    const low = values.reduce((a, b) => Math.min(a, b), Infinity);
    const pad = Math.max((high - low) * 0.08, percent ? 0.005 : Math.abs(high) / 100) || 0.005;
    const top = percent ? Math.min(1.004, high + pad) : high + pad;
    const bottom = low < 0 ? low - pad : Math.max(0, low - pad);
    return linearTicks(bottom, top, 1, score(percent), 5);
  }
