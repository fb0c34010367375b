"""`reslab report`: an HTML page about studies."""

from pathlib import Path

from reslab.commands import printing, typed
from reslab.commands.app import Flag, app
from reslab.commands.play import SMALL, shipped
from reslab.errors import MissingError, worded
from reslab.progress import display


@app.command
def report(
    *directories: Path,
    out: Path = Path("report.html"),
    figures: Path | None = None,
    play: Flag = False,
    open: Flag = False,
    json: Flag = False,
) -> None:
    """Write one self-contained HTML page, Korean and English, about one or more studies, finished or interrupted, or
    about the lab's ledger.

    Parameters
    ----------
    directories
        Study directories (the --out of `reslab study`); without any, the page shows the bundled ledger.
    out
        The page to write.
    figures
        A directory for every picture as PNG and SVG, in both languages.
    play
        Include the playground, with the networks of 20 layers; `reslab play` also has those of 56.
    open
        Open the page in the browser.
    json
        Print the paths of the page and of the figures as JSON.
    """
    import webbrowser

    from reslab.analysis.torchvision_tour import Tour, torchvision_tour
    from reslab.report.figures import write_figures
    from reslab.report.page import write_report
    from reslab.report.playground import playground

    if figures is not None and not directories:
        raise MissingError(*worded("figures-of-studies"))
    typed.check_page(out, "report.html")
    with display() as progress:

        def tour() -> Tour:
            progress("reading torchvision", 0, 1)
            read = torchvision_tour()
            progress("reading torchvision", 1, 1)
            return read

        page = write_report(directories, out, tour, playground(*shipped(SMALL)) if play else None)
        written = []
        if figures is not None:
            typed.make_writable(figures, "--figures")
            written = write_figures(directories, figures, progress)
    if json:
        printing.print_json({"report": str(page), "figures": [str(path) for path in written]})
    else:
        print(page)
        if written:
            print(f"{len(written)} figures in {figures}")
    if open and not webbrowser.open(page.resolve().as_uri()):
        printing.note(worded("no-browser", page=page))
