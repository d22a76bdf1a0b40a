"""The edits of docs/make-it-yours.md: their diffs, and what the page shows of them."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from names import files_and_folders, render_project
from recipes import PAGE
from runs import ROOT, run

NAMES = {
    "fresh": {"project_name": "Iris Flowers"},
    "other names": {
        "project_name": "Churn West",
        "repo_name": "churn-2026",
        "python_package": "churn",
    },
    "long names": {"project_name": "a" * 50},
}
PAGES = (PAGE, ROOT / "docs" / "data-versions.md")
DIFFS = sorted((ROOT / "docs" / "recipes").glob("*.diff"))
SECTION = re.compile(r"^#{2,4} (.+)\n((?:(?!#{2,4} ).*\n)*)", re.M)
APPLIED = re.compile(r"^\$ git apply docs/recipes/(\S+)$", re.M)
# What the page shows of a file: its path in a comment, then lines of it.
SHOWN = re.compile(
    r"^```(?:python|yaml|toml)\n# (\S+)\n(.*?)^```$|^```diff\n--- a/(\S+)\n(.*?)^```$",
    re.M | re.S,
)


def recipes(page: Path) -> dict[str, tuple[str, str]]:
    """Return title and text of the sections that apply a diff, by the diff's name."""
    return {
        name: (title, text)
        for title, text in SECTION.findall(page.read_text("utf-8"))
        for name in APPLIED.findall(text)
    }


def edited_lines(diff: Path) -> dict[str, list[str]]:
    """Return the lines of a diff by the file that they are in."""
    parts = re.split(r"^--- .*\n\+\+\+ b/(.*)\n", diff.read_text("utf-8"), flags=re.M)
    return {
        path: [line for line in text.splitlines() if not line.startswith("@@")]
        for path, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def in_order(part: list[str], whole: list[str]) -> bool:
    """Whether all lines of a part are in the whole, in the same order."""
    rest = iter(whole)
    return all(line in rest for line in part)


@pytest.fixture(scope="module", params=NAMES)
def fresh(request, tmp_path_factory) -> Path:
    """Return a fresh project; tests must not change it."""
    folder = tmp_path_factory.mktemp("recipes")
    return render_project(NAMES[request.param], folder)


@pytest.mark.slow
def test_every_diff_applies_to_a_fresh_project_and_stays_tidy(fresh, tmp_path):
    apart = shutil.ignore_patterns("data", "docs", "tracking")  # no diff is about them
    diffs = sorted((fresh / "docs" / "recipes").iterdir())
    assert [diff.name for diff in diffs] == [diff.name for diff in DIFFS]
    for diff in diffs:
        project = shutil.copytree(
            fresh, tmp_path / diff.stem / fresh.name, ignore=apart
        )
        before = files_and_folders(project)
        run("git", "apply", "--whitespace=error-all", diff, cwd=project)
        assert files_and_folders(project) != before
        run("git", "apply", "--reverse", "--check", diff, cwd=project)
    ruff = (sys.executable, "-m", "ruff")
    run(*ruff, "check", "--no-cache", cwd=tmp_path)
    run(*ruff, "format", "--no-cache", "--diff", cwd=tmp_path)


def test_a_diff_applies_to_a_project_in_a_folder_of_a_repository(fresh, tmp_path):
    project = shutil.copytree(fresh, tmp_path / "projects" / fresh.name)
    run("git", "init", "--quiet", cwd=tmp_path)
    run("git", "apply", "docs/recipes/random-forest.diff", cwd=project)
    assert "n_estimators" in (project / "conf/base/parameters.yml").read_text("utf-8")


def test_every_diff_belongs_to_one_recipe():
    applied = [name for page in PAGES for name in recipes(page)]
    assert sorted(applied) == [diff.name for diff in DIFFS]


def test_the_index_lists_every_recipe():
    index, _, _ = PAGE.read_text("utf-8").partition("\n## ")
    listed = re.findall(r"\]\(#([\w-]+)\)", index)
    titles = [title for title, _ in recipes(PAGE).values()]
    anchors = [title.lower().replace(" ", "-") for title in titles]
    assert len(anchors) > 20
    assert set(anchors) <= set(listed)
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_recipe_shows_a_few_lines_of_its_diff(page):
    for name, (title, text) in recipes(page).items():
        lines = edited_lines(ROOT / "docs" / "recipes" / name)
        shown = SHOWN.findall(text)
        blocks = re.findall(r"^```(?!console|sh)\w+$", text, re.M)
        assert shown and len(shown) == len(blocks), title
        for added_to, new, removed_from, removed in shown:
            if added_to:
                part = [line.strip() for line in new.splitlines() if line.strip()]
                kept = [line for line in lines[added_to] if line[0] != "-"]
                whole = [line[1:].strip() for line in kept]
                added = {line[1:].strip() for line in kept if line[0] == "+"}
                assert added & set(part), f"{title}: nothing of {added_to} is new"
            else:
                part, whole = removed.splitlines(), lines[removed_from]
            assert in_order(part, whole), f"{title}: {added_to or removed_from}"
            assert 0 < len(part) <= 12, title
