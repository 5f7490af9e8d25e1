"""The picture: events a second and p99 over clients, as SVG."""

import html
import math

from report import Results, number

WIDTH, HEIGHT, LEFT, TOP = 380, 260, 56, 40
GAP = 20  # between the panels
COLOURS = {
    "ticketd": "#2f7ed8",
    "PHP-FPM": "#d9534f",
    "PHP-FPM, kept statement": "#e377a8",
    "pgbench": "#3c9d4e",
    "pgbench, fewer promises": "#2aa5a0",
    "nginx + empty handler": "#8e6bbf",
}
# The colours stand on light and dark alike; the rest follows the reader's.
STYLE = """<style>
text { font: 12px sans-serif; fill: #333 } .small { font-size: 10px } .title { font-weight: bold }
.frame { stroke: #999; fill: none } .grid { stroke: #ddd }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .grid { stroke: #444 } .frame { stroke: #888 } }
</style>"""


def element(name, content=None, **attributes):
    """An SVG element. kind= is its class, and _ in a name is a hyphen."""
    attributes = {"class" if key == "kind" else key.replace("_", "-"): value for key, value in attributes.items()}
    shown = "".join(f' {key}="{value:.1f}"' if isinstance(value, float) else f' {key}="{value}"'
                    for key, value in attributes.items() if value is not None)  # fmt: skip
    return f"<{name}{shown}/>" if content is None else f"<{name}{shown}>{content}</{name}>"


def label(x, y, content, **attributes):
    return element("text", html.escape(str(content)), x=x, y=y, **attributes)


def ticks(least, most):
    """1, 2, 5, 10, … from the last below to the first above."""
    every = [m * 10**e for e in range(-3, 7) for m in (1, 2, 5)]
    low = max((tick for tick in every if tick <= least), default=every[0])
    high = min((tick for tick in every if tick > most), default=every[-1])
    return [tick for tick in every if low <= tick <= high]


class Panel:
    """Both scales are logarithmic. A series: name, colour, [(clients, value)]; one point is a level, dashed line."""

    def __init__(self, left, title, series):
        points = [point for _, _, line in series for point in line]
        self.xs = sorted({1, 2, *(x for x, _ in points)} if len({x for x, _ in points}) < 2 else {x for x, _ in points})
        self.ys = ticks(min(y for _, y in points), max(y for _, y in points))
        self.left, self.right = left + LEFT, left + WIDTH
        self.parts = [label(self.left, TOP - 14, title, kind="title")]
        self.scales()
        for name, colour, line in series:
            self.draw(name, colour, line)

    def x(self, clients):
        share = math.log(clients / self.xs[0]) / math.log(self.xs[-1] / self.xs[0])
        return self.left + (self.right - self.left) * share

    def y(self, value):
        return TOP + HEIGHT * (1 - math.log(value / self.ys[0]) / math.log(self.ys[-1] / self.ys[0]))

    def scales(self):
        width = self.right - self.left
        self.parts.append(element("rect", kind="frame", x=self.left, y=TOP, width=width, height=HEIGHT))
        for tick in self.ys:
            y = self.y(tick)
            self.parts.append(element("line", kind="grid", x1=self.left, x2=self.right, y1=y, y2=y))
            self.parts.append(label(self.left - 5, y + 3, f"{tick:,g}", kind="small", text_anchor="end"))
        for clients in self.xs:
            self.parts.append(label(self.x(clients), TOP + HEIGHT + 15, clients, kind="small", text_anchor="middle"))
        middle = self.left + width / 2
        self.parts.append(label(middle, TOP + HEIGHT + 28, "clients", kind="small", text_anchor="middle"))

    def draw(self, name, colour, line):
        level = len(line) == 1
        path = [(x, line[0][1]) for x in (self.xs[0], self.xs[-1])] if level else line
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in path)
        self.parts.append(element("polyline", points=path, fill="none", stroke=colour, stroke_width=2,
                                  stroke_dasharray="5 4" if level else None))  # fmt: skip
        for x, y in [] if level else line:
            title = element("title", html.escape(f"{name}, {x} clients: {number(y)}"))
            self.parts.append(element("circle", title, cx=self.x(x), cy=self.y(y), r=3, fill=colour))


def legend(series):
    for i, (name, colour, line) in enumerate(series):
        x, y = LEFT + 255 * (i % 3), TOP + HEIGHT + 48 + 18 * (i // 3)
        yield element("line", x1=x, x2=x + 24, y1=y - 4, y2=y - 4, stroke=colour, stroke_width=2,
                      stroke_dasharray="5 4" if len(line) == 1 else None)  # fmt: skip
        yield label(x + 30, y, name)


def picture(runs):
    results = Results(runs)
    rates, waits = [], []
    for name, colour in COLOURS.items():
        for what, series in ("rate", rates), ("p99", waits):
            line = [(n, results.median(name, n, what)) for n in results.clients(name)]
            if line and not (what == "p99" and "pipelines" in name):  # theirs is that of a batch
                series.append((name, colour, line))
    parts = Panel(0, "events/s", rates).parts if rates else []
    parts += Panel(WIDTH + GAP, "p99, ms", waits).parts if waits else []
    size = f"0 0 {2 * WIDTH + GAP + 15} {TOP + HEIGHT + 98}"
    content = "\n".join(["", STYLE, *parts, *legend(rates), ""])
    return element("svg", content, xmlns="http://www.w3.org/2000/svg", viewBox=size) + "\n"
