"""The command `arq`: the book, the table, its rows and its data.

Here are the commands' options and one end for all of them; the work is in the modules they call.
These are imported inside the commands, so that help comes at once.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from arq_core.config import paths, surroundings
from arq_core.config.command import Commands, Refused, profile, text


@click.group(
    cls=Commands,
    context_settings=dict(show_default=True, max_content_width=100),
    epilog="Example: arq table --help explains one of them, with an example of its own.",
)
def arq():
    """Action-restricted Q-learning: its book, its table, and the data of both."""


@arq.command("book", epilog="Example: arq book --profile ci --jobs 2")
@profile("page")
@click.option("--jobs", default=0, help="Notebooks at a time; 0: as many as this machine can.")
def make_book(profile, jobs):
    """Run the notebooks whose inputs changed, then build the pages."""
    root = paths.root()
    from arq_core.book import pages

    pages.build(root, profile, jobs)


@arq.command(epilog="Example: arq row door-human --profile lite --method arq+s_psi --seeds 0,1,2")
@click.argument("task")
@profile("lite")
@text("--method", "One method, or module:function of yours; without it, those of the notebook.")
@text("--seeds", "Seeds, as 0,1,2; without it, those of the profile.")
@text("--group", "For data of yours: whose hyperparameters they take.")
@text(
    "--environment",
    "For data of yours: a task, or gymnasium:ID, in whose simulator to score; "
    "without it, they are trained only.",
)
@text(
    "--bounds",
    "For data of yours: the box in which their actions were recorded, as -2:2 or -0.4,0:0.4,3, or "
    "the word normalized; without it, the simulator's.",
)
@text("--log", "A folder for loss curves, seconds and values, as CSV and TensorBoard's events.")
@click.option("--curve", default=0, help="Score so many snapshots of the last training, for --log.")
@click.option(
    "--keep-snapshots",
    is_flag=True,
    help="With --curve: leave the snapshots in the cache; without it, they are removed once all "
    "are scored.",
)
def row(**asked):
    """Train and evaluate one row of Table A.4.

    TASK is a name in data/tasks.csv, or data of yours: an HDF5 file in the layout of D4RL or
    robomimic, a folder of Minari's, or minari:ID.
    """
    root = paths.root()
    from arq_core.book import pages

    pages.run_row(root, **asked)


@arq.command(epilog="Example: arq keep door-human --profile fast --method arq+pi --out door.arq")
@click.argument("task")
@click.option("--out", type=Path, required=True, help="The file, *.arq.")
@profile("lite")
@click.option("--method", default="arq+s_psi", help="Whose policy.")
@click.option("--seed", type=int, help="Of which seed; without it, the profile's first.")
@text("--group", "For data of yours: whose hyperparameters they take.")
@text("--bounds", "For data of yours: the box of their actions, as for arq row.")
def keep(task, out, profile, method, seed, group, bounds):
    """Train a policy, or find it trained, and keep it in a file.

    TASK is what arq row takes. The file acts without the data: arq act, or arq_core.load.
    """
    from arq_core.experiments import kept
    from arq_core.experiments.experiment import prepare

    setup = prepare(task, profile, group=group, bounds=bounds)
    click.echo(f"The policy is at {kept.policy(setup, method, seed).save(out)}")


@arq.command(epilog='Example: arq choose door-human --methods "bc arq+s_psi" --epsilons -5,off')
@click.argument("task")
@profile("ci")
@click.option("--methods", default="bc s_psi arq+s_psi", help="Methods, with spaces between.")
@text("--epsilons", "Logs of epsilon in nats, and off; without it, the group's own.")
@text("--alphas", "Multiples of the group's own alpha, as 0.1,1; without it, 1.")
@text("--ks", "K of ARQ, as 1,9; without it, the group's own.")
@text("--seeds", "Seeds, as 0,1,2; without it, those of the profile.")
@click.option("--starts", type=Path, help="States where episodes will begin, *.npy.")
@text("--group", "For data of yours: whose hyperparameters they take.")
@text("--bounds", "For data of yours: the box of their actions, as for arq row.")
def choose(task, profile, methods, epsilons, alphas, ks, seeds, starts, group, bounds):
    """Rank epsilon, alpha, K and methods without a simulator.

    TASK is what arq row takes. A part of the episodes is held out, and fitted Q evaluation on it
    says what each policy is worth. The book's page on choosing says when that may be trusted.
    """
    from arq_core.experiments import choosing
    from arq_core.experiments.experiment import prepare

    numbers = choosing.whole_numbers("seeds", seeds) or None
    begin = None if starts is None else choosing.read_starts(starts)
    setup = prepare(task, profile, numbers, group=group, bounds=bounds)
    candidates = choosing.asked(setup, methods, epsilons, alphas, ks)
    click.echo(choosing.said(choosing.choose(setup, candidates, starts=begin)))


@arq.command(epilog="Example: arq card door.arq")
@click.argument("policy", type=Path)
def card(policy):
    """Show what a kept policy is, and where it was trained."""
    from arq_core.experiments import kept

    found = kept.load(policy)
    said = {k: v for k, v in found.card.items() if k != "probe"}
    box = str(found.box)
    click.echo(json.dumps(dict(said, state_dim=found.state_dim, actions_in=box), indent=1))


@arq.command(epilog="Example: arq weights bridge-arq-s_psi bridge.arq")
@click.argument("name", default="")
@click.argument("out", type=Path, required=False)
@click.option("--make", "folder", type=Path, help="Train it, or all, into this folder.")
@text("--address", "With --make: where a release will hold the files; writes published.toml.")
def weights(name, out, folder, address):
    """List trained policies, fetch one, or make them.

    NAME is one that is published; OUT is the file it goes to, and without it the cache. Nothing is
    taken that has another hash than data/weights.toml says.
    """
    from arq_core.experiments import weights as of_rows

    if folder and out or address and not folder:
        raise click.UsageError("Expected OUT or --make, not both, and --address with --make.")
    if folder:
        for path in of_rows.make(folder, name, address):
            click.echo(path)
    elif name:
        click.echo(f"The policy is at {of_rows.fetch(name, out)}")
    else:
        click.echo(of_rows.listed())


@arq.command(epilog="Example: arq act door.arq observations.npy --out actions.npy")
@click.argument("policy", type=Path)
@click.argument("observations", type=Path)
@click.option("--out", type=Path, required=True, help="Where the actions go, *.npy.")
@click.option("--seed", default=0, help="Of what the policy draws.")
def act(policy, observations, out, seed):
    """Act: from a file of observations [n, S] to one of actions."""
    from arq_core.experiments import kept

    click.echo(f"The actions are at {kept.act_on_file(policy, observations, out, seed)}")


@arq.command("film", epilog="Example: arq film door-human door.arq --out door.gif")
@click.argument("task")
@click.argument("policy", type=Path)
@click.option("--out", type=Path, required=True, help="*.gif, or *.mp4 with imageio-ffmpeg.")
@click.option("--steps", default=0, help="At most; 0: until the episode ends.")
@click.option("--every", default=2, help="A picture each so many steps.")
@click.option("--size", default=360, help="Pixels of a side.")
@click.option("--seed", default=0, help="Of the episode, and of what the policy draws.")
@click.option("--tries", default=1, help="Play so many, from --seed on; film the highest return.")
@click.option("--once", is_flag=True, help="A GIF that ends, instead of beginning again.")
def make_film(task, policy, out, **asked):
    """Film an episode of a kept policy, with what it believes.

    Its steps and return are said, and the step at which the simulator told of success, if it did.
    """
    from arq_core.experiments import film

    click.echo(film.film(film.Asked(task, str(policy), str(out), **asked)))


@arq.command(epilog='Example: arq table --tasks "maze bridge" --methods "bc arq+pi" --plan')
@profile("ci")
@text("--tasks", "Names, with spaces or commas between; without it, those of workflow/grids.toml.")
@text(
    "--methods", "Likewise; dqp-brac-kl stands for the two words dqp brac-kl, all for every column."
)
@text("--seeds", "Seeds, as 0,1,2; without it, those of the profile.")
@click.option("--engine", default="laptop", help="laptop, slurm or kubernetes: workflow/README.md.")
@click.option("--variant", default="released", help="Of the algorithm: released or paper.")
@click.option("--threads", default=1, help="Threads of a step.")
@click.option("--gpus", default=0, help="GPUs of a step.")
@click.option("--cores", default=0, help="Cores that steps share; 0: all.")
@click.option("--results", default="data/results", help="Where rows go, from the checkout's root.")
@click.option("--no-book", is_flag=True, help="Do not build the book afterwards.")
@click.option("--plan", is_flag=True, help="Only say what there is to do, and what it costs.")
@click.option("--list", "every", is_flag=True, help="With --plan: name every step.")
@click.option("--configure", is_flag=True, help="Only write what workflow/Snakefile reads.")
@click.pass_context
def table(context, results, no_book, plan, every, configure, **asked):
    """Fill Table A.4: run what is missing, write rows, tables, book."""
    if plan and configure or every and not plan:
        raise click.UsageError("Expected --plan or --configure, not both, and --list with --plan.")
    root = paths.root()
    from arq_core.book import board

    with board.said_meanwhile("reads tasks and budgets"):
        from arq_core.grid import driver, run

    request = run.read_request(root, **asked)
    if plan or configure:
        click.echo(run.planned(root, request, every) if plan else driver.configure(root, request))
    elif not run.run(root, request, not no_book, root / paths.given(results)):
        context.exit(1)


@arq.command("reference", epilog="Example: arq reference --profile fast --hours 5")
@profile("fast")
@text("--tasks", "Among which to choose; without it, all that others published.")
@text("--methods", "As for arq table; without it, those of workflow/grids.toml.")
@text("--proposed", "Branches with rows that are proposed already: they are left out.")
@click.option("--hours", default=5.0, help="After these, what runs is stopped at a checkpoint.")
@click.option("--results", default="data/results", help="Where rows go, from the checkout's root.")
@click.option("--out", default="_build/reference", help="Where finished rows are laid out.")
@click.option("--plan", is_flag=True, help="Only show the queue.")
@click.pass_context
def fill_reference(context, profile, tasks, methods, proposed, hours, results, out, plan):
    """Fill rows of the next published dataset that has none.

    One dataset a run: it is fetched, trained and scored; its rows are laid out to be proposed. The
    same command goes on where it was stopped or killed; a dataset that failed comes last.
    """
    root = paths.root()
    from arq_core.grid import reference
    from arq_core.grid.run import names

    asked = reference.Asked(
        profile, tuple(names(methods)), tuple(names(tasks)), tuple(names(proposed)), hours
    )
    folder = root / paths.given(results)
    if plan:
        click.echo(reference.shown(root, asked, folder))
    elif not reference.run(root, asked, folder, root / paths.given(out), click.echo):
        context.exit(1)


@arq.command(epilog="Example: arq collect hopper-medium-recollected --cards data/cards")
@click.argument("names", metavar="TASK...", nargs=-1, required=True)
@click.option("--cards", type=Path, help="A folder for copies of the data cards.")
def collect(names, cards):
    """Collect datasets of our own, or find them in the cache."""
    paths.root()
    from arq_core.collectors import run

    try:
        for path, card in run.collect(names, cards and paths.given(cards)):
            click.echo(f"{path}\n{json.dumps(card, indent=1)}")
    except OSError as error:
        raise Refused(str(error)) from error


@arq.command(epilog="Example: arq export door.arq door.onnx")
@click.argument("source", metavar="POLICY|FOLDER", type=Path)
@click.argument("out", required=False, type=Path)
@click.option("--results", type=Path, help="Folder of the rows; without it, data/results.")
def export(source, out, results):
    """Write a kept policy as a graph, or the tables as files.

    POLICY is a file of arq keep. OUT ends in .onnx, for any runtime, or in .pt2, for
    torch.export.load. With a FOLDER alone, the tables go there as CSV, LaTeX and Markdown.
    """
    if out is not None:
        if results is not None:
            raise click.UsageError("Expected --results with a FOLDER for the tables alone.")
        from arq_core.experiments import exported

        click.echo(f"The graph is at {exported.export(source, out)}")
        return
    if source.suffix == ".arq":
        raise click.UsageError("Expected OUT, *.onnx or *.pt2, after a kept policy.")
    root = paths.root()
    from arq_core.results import export as tables_files
    from arq_core.results import rows, tables

    results = paths.given(results or root / "data/results")
    for path in tables_files.export(
        paths.given(source),
        results,
        rows.read_rows(results),
        tables.read_runs(results),
        tables.read_failures(),
    ):
        click.echo(path)


@arq.command(epilog="Example: arq compare data/results new/results --profile ci --partial")
@click.argument("stored")
@click.argument("new")
@profile("ci")
@click.option("--over", default="bc", help="The clone that has to be beaten.")
@click.option("--partial", is_flag=True, help="A watched cell without new rows is no failure.")
@click.pass_context
def compare(context, **asked):
    """Compare rows: is what beat behaviour cloning still ahead?

    STORED and NEW are folders of rows. The status is 1 where it is not, 2 where
    the two cannot be compared.
    """
    from arq_core.results import regressions

    if not regressions.check(**asked):
        context.exit(1)


@arq.command(epilog="Example: arq crate data/results")
@click.argument("folder", type=Path)
@text("--licence", "Address of the licence that you give the rows; without it, MIT, that of ours.")
def crate(folder, licence):
    """Describe a folder of rows as an RO-Crate.

    Writes ro-crate-metadata.json into it: files, runs, their commits and data.
    """
    from arq_core.results import crate as of_rows

    click.echo(f"The description is at {of_rows.write(folder, licence or of_rows.LICENCE)}")


@arq.command("links", epilog="Example: arq links --offline")
@click.option("--offline", is_flag=True, help="Do not follow links to other hosts.")
@click.pass_context
def check_links(context, offline):
    """Check every link of the built book and of the README."""
    root = paths.root()
    from arq_core.book import links

    if not links.check(root, offline):
        context.exit(1)


@arq.command("layout", epilog="Example: arq layout executed/cloning results")
@click.argument("pages", metavar="[PAGE]...", nargs=-1)
@click.pass_context
def check_layout(context, pages):
    """Look at every built page in Chromium: is anything cut?"""
    root = paths.root()
    from arq_core.book import layout

    if not layout.check(root, pages):
        context.exit(1)


@arq.command("pdf", epilog="Example: arq pdf executed/support --out support.pdf")
@click.argument("pages", metavar="[PAGE]...", nargs=-1)
@click.option("--out", type=Path, help="The file; without it, _build/the-arq-book.pdf.")
def make_pdf(pages, out):
    """Print the built book, or some of its pages, to one PDF."""
    root = paths.root()
    from arq_core.book import pdf

    click.echo(f"The PDF is at {pdf.make(root, out and paths.given(out), pages).as_uri()}")


@arq.command(epilog="Example: arq task hopper-medium-v2")
@click.argument("name")
def task(name):
    """Show what a dataset is, whether it is here, and how to get it."""
    from arq_core.config.tasks import tasks
    from arq_core.datasets import at_hand, passports
    from arq_core.datasets.find import find
    from arq_core.datasets.own import is_own

    if name not in tasks() and is_own(name):
        raise Refused(
            f"{name}: saw a path or id of your own data, expected a task of data/tasks.csv, of "
            "which something is known; `arq row` takes your data."
        )
    click.echo(f"{passports.passport(name)}\n")
    source = find(name)
    missing, row = source.why_not(), source.task
    click.echo(missing or f"It is here: {at_hand.file_of(row) or 'computed when it is loaded'}")
    if missing and (others := at_hand.stand_ins(row)):
        click.echo(f"Collected in its place: `make collect TASK={others[0]}`")


@arq.command("costs", epilog="Example: arq costs --calibrate")
@click.option(
    "--calibrate",
    is_flag=True,
    help="Take them anew from the finished "
    "steps, and write them to data/benchmarks/grid_costs.json.",
)
def show_costs(calibrate):
    """Show what each kind of step costs, by which `arq table` plans."""
    root = paths.root()
    from arq_core.grid import costs

    record = (
        costs.calibrate(root) if calibrate else json.loads((root / costs.FILE).read_text("utf-8"))
    )
    click.echo(json.dumps(record, indent=1))


@arq.command(epilog="Example: arq where")
def where():
    """Show folders and ARQ_* variables in force, and their purpose."""
    for what, folder in {
        "checkout": paths.root,
        "cache": paths.cache_folder,
        "local data": paths.local_folder,
    }.items():
        try:
            click.echo(f"{what:<12}{folder()}")
        except paths.NoCheckout as error:
            click.echo(f"{what:<12}none ({error})")
    for name, what in paths.variables().items():
        click.echo(f"\n{name} = {os.environ.get(name, '(not set)')}\n    {what}")


def main(arguments: list[str] | None = None) -> None:
    """Run the command; it ends the process with its exit status."""
    if arguments is None:
        surroundings.begin_in_utf8()
    surroundings.settle()
    arq.main(arguments, prog_name="arq")


if __name__ == "__main__":
    main()
