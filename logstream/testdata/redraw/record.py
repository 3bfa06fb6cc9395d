"""Records what real progress bars print, into the .raw files beside this one.

Usage: PYTHONPATH=... python3 record.py. The files here were made with tqdm 4.64.1
and rich 13.3.1 of Debian 12. Bars redraw without a pause, so runs are alike but
for times and rates.
"""

import io
import pathlib

from rich.console import Console
from rich.live import Live
from rich.progress import Progress
from rich.table import Table
from tqdm import tqdm, trange

HERE = pathlib.Path(__file__).parent
SHAPE = "{desc}: {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt}"


def record(name, play):
    out = io.StringIO()
    play(out)
    (HERE / f"{name}.raw").write_bytes(out.getvalue().encode())


def bars(out, **options):
    return dict(file=out, mininterval=0, bar_format=SHAPE, ncols=80, **options)


def tqdm_nested(out):
    for _ in trange(3, desc="suite", **bars(out)):
        for _ in trange(4, desc="test", leave=False, **bars(out)):
            pass
    out.write("Done\n")


def tqdm_nested_left(out):
    for _ in trange(2, desc="suite", **bars(out)):
        for _ in trange(3, desc="test", **bars(out, colour="green")):
            pass
    out.write("Done\n")


def tqdm_positions(out):
    shards = [tqdm(total=3, desc=f"shard {i}", position=i, **bars(out)) for i in range(4)]
    for _ in range(3):
        for bar in shards:
            bar.update()
            tqdm.write("a line above the bars", file=out) if bar.n == 2 and bar is shards[1] else None
    for bar in shards:
        bar.close()
    out.write("\n" * len(shards) + "Done\n")


def console(out):
    return Console(file=out, force_terminal=True, width=60, height=20, legacy_windows=False, color_system="standard")


def rich_progress(out):
    to = console(out)
    with Progress(console=to, auto_refresh=False) as progress:
        tasks = [progress.add_task(f"download {i}", total=4) for i in range(3)]
        for step in range(4):
            for task in tasks:
                progress.advance(task)
                progress.refresh()
            if step == 1:
                progress.print("a line above the bars")
    to.print("Done")


def rich_transient(out):
    to = console(out)
    with Progress(console=to, auto_refresh=False, transient=True) as progress:
        task = progress.add_task("warm-up", total=3)
        for _ in range(3):
            progress.advance(task)
            progress.refresh()
    to.print("Done")


def rich_table(out):
    to = console(out)
    with Live(console=to, auto_refresh=False) as live:
        for rows in range(1, 4):
            table = Table("batch", "tokens/s")
            for row in range(rows):
                table.add_row(str(1 << row), str(100 * (row + 1)))
            live.update(table, refresh=True)
    to.print("Done")


def rich_status(out):
    to = console(out)
    with to.status("Loading model") as status:
        status.update("Capturing graphs")
        to.print("a line above the spinner")
    to.print("Done")


for player in (tqdm_nested, tqdm_nested_left, tqdm_positions, rich_progress, rich_transient, rich_table, rich_status):
    record(player.__name__, player)
