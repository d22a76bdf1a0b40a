"""The pages: every link leads somewhere, in this repository and in each project."""

import ast
import re
from pathlib import Path

import pytest
from names import render_project
from packaged import TEMPLATE, tracked
from runs import ROOT

NAMES = {
    "project_name": "Churn West",
    "repo_name": "churn-2026",
    "python_package": "churn",
}
KINDS = {".diff", ".md", ".sh"}
# Pages that are not about a generated project.
STARTERS = {
    "add-to-your-project.md",
    "architecture.md",
    "faults.md",
    "from-kedro-mlflow.md",
    "speed.md",
}
LINK = re.compile(r"!?\[(?:[^\[\]]|!\[[^\]]*\])*\]\(([^()\s]+)\)")
# As messages and comments name a page; several links of Markdown do, too.
MENTION = re.compile(r"(?<![\w/.])docs/(?:[\w-]+/)*[\w-]+\.\w+")

FAMILIES = """
creation data drift failure git kedro model monitor origin python record registry replay
search trained variation
"""
TAG = re.compile(rf"({'|'.join(FAMILIES.split())})\.[a-z_]+")
NO_TAGS = {"kedro.hooks", "model.skops", "record.json"}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Return a rendered project, none of whose names is the example's."""
    return render_project(NAMES, tmp_path_factory.mktemp("pages"))


def docs(folder: Path) -> dict[str, Path]:
    """Return the files of ``docs/`` by their path in it."""
    files = (path for path in (folder / "docs").rglob("*") if path.is_file())
    return {path.relative_to(folder / "docs").as_posix(): path for path in files}


def without_code(text: str) -> str:
    """Return a page without its blocks and spans of code."""
    text = re.sub(r"^(\s*)```.*?^\1```$", "", text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    text = re.sub(
        r"^(\s*)```.*?^\1```$", "", page.read_text("utf-8"), flags=re.M | re.S
    )
    found: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", text, re.M):
        title = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title)
        slug = re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")
        same = sum(
            re.fullmatch(rf"{re.escape(slug)}(-\d+)?", one) is not None for one in found
        )
        found.add(f"{slug}-{same}" if same else slug)
    return found


def broken_links(pages: list[Path]) -> list[str]:
    """Return the links of pages that lead to no file, or to no heading of it."""
    broken = []
    for page in pages:
        for link in LINK.findall(without_code(page.read_text("utf-8"))):
            if re.match(r"https?://", link):
                continue
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            if not target.is_file() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.name}: {link}")
    return broken


def reachable(page: Path) -> set[Path]:
    """Return the files that a reader comes to by links."""
    found, todo = set(), [page]
    while todo:
        if (page := todo.pop()) in found or not page.is_file():
            continue
        found.add(page)
        if page.suffix == ".md":
            links = LINK.findall(without_code(page.read_text("utf-8")))
            names = [link.partition("#")[0] for link in links if ":" not in link]
            todo += [(page.parent / name).resolve() for name in names if name]
    return found


def test_every_link_of_the_starter_leads_somewhere():
    pages = [ROOT / name for name in tracked() if name.endswith(".md")]
    pages = [page for page in pages if TEMPLATE not in page.parts]
    assert len(pages) > 15
    assert broken_links(pages) == []


def test_every_link_of_a_project_leads_somewhere(project):
    pages = list(project.rglob("*.md"))
    assert len(pages) > 15
    assert broken_links(pages) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A `title` of one\n# Again\n# Again\n"
        "[a](page.md) [b](#a-title-of-one) [c](#again-1) [d](none.md)"
        " [e](page.md#nothing) `[f](code.md)` [g](https://example.org/none)"
        " [![h](none.png)](none.html)\n```console\n[i](block.md)\n# Nothing\n```\n"
    )
    broken = {line.partition(": ")[2] for line in broken_links([page])}
    assert broken == {"none.md", "page.md#nothing", "none.html"}


def test_every_page_that_a_file_names_exists(project):
    for file in project.rglob("*"):
        if file.is_file():
            for name in MENTION.findall(file.read_text("utf-8")):
                assert (project / name).is_file(), (
                    f"{file.relative_to(project)}: {name}"
                )


def test_a_project_has_every_page_but_those_for_maintainers(project):
    ours = {name for name in docs(ROOT) if Path(name).suffix in KINDS}
    assert set(docs(project)) == ours - STARTERS


def test_readers_come_to_every_page(project):
    for start in (ROOT / "README.md", project / "README.md"):
        pages = set((start.parent / "docs").glob("*.md"))
        assert pages <= reachable(start), start


def test_pages_have_the_names_of_the_project(project):
    text = "".join(file.read_text("utf-8") for file in docs(project).values())
    assert not re.search("iris[-_ ]flowers", text, re.IGNORECASE)
    for name in NAMES.values():
        assert name in text
    assert f"models:/{NAMES['python_package']}@champion" in text


def test_pages_differ_from_their_sources_in_names_only(project):
    """Braces of a page are not interpreted."""
    for path, file in docs(project).items():
        source = (ROOT / "docs" / path).read_text("utf-8")
        text = file.read_text("utf-8")
        for name, answer in zip(
            ("Iris Flowers", "iris-flowers", "iris_flowers"),
            NAMES.values(),
            strict=True,
        ):
            source = source.replace(name, answer)
        assert text == source


def test_a_script_of_the_pages_can_be_started(project):
    assert (project / "docs" / "team-server.sh").stat().st_mode & 0o111


def test_the_map_of_tracking_names_every_module(project):
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    (picture,) = re.findall(r"^```mermaid\n(.*?)^```", page, re.M | re.S)
    modules = {file.stem for file in project.glob("src/*/tracking/*.py")}
    words = set(re.findall(r"\w+", picture))
    assert modules - {"__init__"} <= words


def test_the_page_on_records_names_every_tag(project):
    page = (project / "docs" / "record.md").read_text("utf-8")
    tags = set()
    for file in project.glob("src/**/*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and TAG.fullmatch(text):
                tags.add(text)
    assert len(tags) > 20
    assert [tag for tag in sorted(tags - NO_TAGS) if f"`{tag}`" not in page] == []


def test_the_page_on_pipelines_names_every_node(project):
    page = (project / "docs" / "pipelines.md").read_text("utf-8")
    (package,) = (project / "src").iterdir()
    code = "".join(f.read_text() for f in package.glob("pipelines/*/pipeline.py"))
    nodes = set(re.findall(r'name="(\w+)"', code))
    assert len(nodes) > 10
    assert [name for name in sorted(nodes) if f"`{name}`" not in page] == []
    drawn = "".join(re.findall(r"^```mermaid\n(.*?)^```", page, re.M | re.S))
    assert nodes - {"tune_model", "draw_search"} <= set(re.findall(r"\w+", drawn))
