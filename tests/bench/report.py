"""What the runs say: a table of medians, and the ratios with their goals."""

import statistics

HEAD = (f"{'contender':34}{'clients':>8}{'events/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'non-200':>8}{'rows-200s':>10}"
        f"{'worst probe ms':>16}")  # fmt: skip


def line(r):
    """One run, as it ends."""
    probe = r.get("probe")
    waited = (number(probe["worst"]) + (" STARVED" if probe["starved"] else "")) if probe else ""
    surplus = "" if r["surplus"] is None else r["surplus"]
    return (f"{r['contender']:34}{r.get('clients', ''):>8}{r['rate']:>10,.0f}{number(r.get('p50')):>9}"
            f"{number(r.get('p99')):>9}{r.get('bad', ''):>8}{surplus:>10}{waited:>16}")  # fmt: skip


def number(value):
    """Three digits that matter."""
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


class Results:
    """The runs by contender and clients."""

    def __init__(self, runs):
        self.cells = {}
        for run in runs:
            self.cells.setdefault((run["contender"], run.get("clients")), []).append(run)

    def values(self, contender, clients, *path):
        found = []
        for value in self.cells.get((contender, clients), []):
            for name in path:
                value = value.get(name) if value else None
            if value is not None:
                found.append(value)
        return found

    def median(self, contender, clients, *path):
        values = self.values(contender, clients, *path)
        return statistics.median(values) if values else None

    def best(self, contender):
        rates = [self.median(name, clients, "rate") for name, clients in self.cells if name == contender]
        return max(rates, default=None)

    def clients(self, contender):
        return sorted(n for name, n in self.cells if name == contender and n is not None)


# -- tables -----------------------------------------------------------------------------------------------------------


def markdown(head, rows):
    """A table that can be read as it is and as Markdown."""
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]

    def line_of(row):
        cells = [f"{cell:>{width}}" if i else f"{cell:{width}}" for i, (cell, width) in enumerate(zip(row, widths))]
        return "| " + " | ".join(cells) + " |\n"

    rule = "|".join("-" * (width + 1) + (":" if i else "-") for i, width in enumerate(widths))
    return line_of(head) + f"|{rule}|\n" + "".join(line_of(row) for row in rows)


def spread(values):
    """Median with least and most."""
    if not values:
        return ""
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))}-{number(max(values))})"


def range_of(values):
    return "" if not values else str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"


# A heading, and where the figure is in a run.
COLUMNS = [
    ("events/s", "rate"),
    ("p50 ms", "p50"),
    ("p99 ms", "p99"),
    ("non-200", "bad"),
    ("journal rows - 200s", "surplus"),
    ("database connections", "connections"),
    ("CPU-s per 10,000 events: nginx", "cpu", "nginx"),
    ("handler", "cpu", "handler"),
    ("PostgreSQL", "cpu", "postgres"),
]
MORE = [
    ("events per WAL sync", "shared"),
    ("switches of the handler per event", "switches"),
    ("its most memory, MB", "rss"),
    ("probes sent", "probe", "sent"),
    ("unanswered", "probe", "starved"),
    ("longest, ms", "probe", "worst"),
    ("least served connection / mean", "fewest"),
]
COUNTS = {"bad", "surplus", "connections", "sent", "starved"}


def cells_table(results, columns):
    rows = []
    for contender, clients in results.cells:
        cells = []
        for _, *path in columns:
            values = results.values(contender, clients, *path)
            cells.append(range_of(values) if path[-1] in COUNTS else spread(values))
        if any(cells):
            rows.append((contender, clients or "", *cells))
    return markdown(("contender", "clients", *(column[0] for column in columns)), rows)


class Goals:
    """Rows of what, figure, goal and whether it is met."""

    def __init__(self):
        self.rows = []

    def add(self, what, figure, goal=None, at_most=None, unit="", aim=""):
        """The figure must reach `goal`, or stay within `at_most`; without either it only informs."""
        if figure is None:
            return
        sign, limit = ("<=", at_most) if at_most is not None else (">=", goal)
        met = "" if limit is None else "yes" if (figure <= limit if at_most is not None else figure >= limit) else "NO"
        wanted = "" if limit is None else f"{sign} {limit}{unit}{aim}"
        self.rows.append((what, number(figure) + unit, wanted, met))


def ratio(a, b):
    return a / b if a is not None and b else None


def goals(results):
    """The ratios and the limits, each with its goal."""
    rows, median, served = Goals(), results.median, results.clients("ticketd")
    for clients in [n for n in served if n >= 64] or served[-1:]:
        rate, at = median("ticketd", clients, "rate"), f"events/s at {clients} clients"
        one = results.best("pgbench")
        rows.add(f"{at} / best of pgbench, one transaction an event", ratio(rate, one), 3, aim=", aim 4")
        rows.add(f"{at} / PHP-FPM there", ratio(rate, median("PHP-FPM", clients, "rate")), 8, aim=", aim 10")
        rows.add(f"{at} / best of PHP-FPM", ratio(rate, results.best("PHP-FPM")), 8, aim=", aim 10")
    alone, bare = median("ticketd", 1, "p50"), median("pgbench", 1, "p50")
    if alone is not None and bare is not None:
        rows.add("median latency of one client - that of pgbench", alone - bare, at_most=0.3, unit=" ms")
    if served:
        at_most_clients(rows, results, served[-1])
    promises(rows, results)
    floors(rows, results)
    return rows.rows


def at_most_clients(rows, results, most):
    """What is looked at under the largest load."""

    def of(*path, name="ticketd"):
        return results.median(name, most, *path)

    rate, cpu, at = of("rate"), of("cpu", "handler"), f"at {most} clients"
    rows.add(f"p99 / median {at}", ratio(of("p99"), of("p50")), at_most=3)
    rows.add(f"events/s with 1 % refused / without, {at}", ratio(of("rate", name="ticketd, 1 % refused"), rate), 0.8)
    rows.add(f"context switches of the handler per event {at}", of("switches"), at_most=2)
    rows.add(f"CPU of the handler per event {at}", cpu and cpu * 100, at_most=20, unit=" us")
    rows.add(f"most memory of the handler {at}", of("rss"), at_most=32, unit=" MB")
    rows.add("events/s with a grown database / without", ratio(of("rate", name="ticketd, grown database"), rate), 0.85)
    rows.add("events/s sustained / of a short run", ratio(of("rate", name="ticketd, sustained"), rate), 0.85)


def promises(rows, results):
    """The worst of all runs of ticketd."""

    def worst(*path):
        cells = [cell for cell in results.cells if cell[0].startswith("ticketd")]
        return max((abs(value) for cell in cells for value in results.values(*cell, *path)), default=None)

    rows.add("journal rows - 200s of ticketd, farthest from 0", worst("surplus"), at_most=0)
    rows.add("probe's 200s that the journal lacks", worst("missing"), at_most=0)
    rows.add("probe's events without an answer within 5 s", worst("probe", "starved"), at_most=0)
    rows.add("database connections of ticketd", worst("connections"), at_most=1)


def floors(rows, results):
    """Beside a stronger peer, and how much of what is possible at all."""
    for clients in results.clients("ticketd"):
        rate = results.median("ticketd", clients, "rate")
        plain = results.best("pgbench, fewer promises")
        rows.add(f"events/s at {clients} clients / best of pgbench, fewer promises", ratio(rate, plain))
        for other, at in [("PHP-FPM, kept statement", clients), ("nginx + empty handler", clients),
                          ("ticketd, import in batches of 32", None),
                          ("ticketd, import in batches of 256", None)]:  # fmt: skip
            rows.add(f"events/s at {clients} clients / {other}", ratio(rate, results.median(other, at, "rate")))


def tables(runs):
    results = Results(runs)
    return (cells_table(results, COLUMNS) + "\nMedian (least-most) of the rounds.\n\n"
            + markdown(("ratio", "figure", "goal", "met"), goals(results))
            + "\n" + cells_table(results, MORE))  # fmt: skip
