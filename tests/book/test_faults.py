"""What no built page may show: raw markup, errors, progress bars, pictures without a caption."""

import pytest
from sphinx_books import file

from arq_core.book import faults


def found(folder, body, name="page.html"):
    file(folder / name, f"<html><body><article>{body}</article></body></html>")
    return faults.problems(folder)


NUMBERED = (
    '<figure><img src="a.png" alt="x"><figcaption><span class="caption-number">Figure 1 </span>'
    "</figcaption></figure>"
)


@pytest.mark.parametrize(
    "body, what",
    [
        ("<pre>policy:  6%|▋  | 128/2000 [00:01&lt;00:14, 127.09it/s]</pre>", "a progress bar"),
        ("<pre>Traceback (most recent call last):</pre>", "an error"),
        ("<p>BridgeEnvs: saw no simulation of MuJoCo</p>", "an error"),
        ("<p>robosuite cannot be loaded (No module)</p>", "an error"),
        ("<pre>Hyper(variant='released', n=16)</pre>", "settings as Python prints them"),
        ("<p>| row | as printed |\n|---|---|</p>", "a table in Markdown"),
        ("<p>| row |—|—|</p>", "a table in Markdown"),
        (r"<td>the clone $s_\psi$ alone</td>", "a formula in Markdown"),
        ("<p>## The rows</p>", "a heading in Markdown"),
        ("<p>see {eq}`eq-4`</p>", "a role or directive"),
        ("<p>**bold**</p>", "bold in Markdown"),
        ('<img src="a.png" alt="a curve">', "a picture without a number"),
        ('<figure><img src="a.png" alt="a curve"></figure>', "a picture without a number"),
        (NUMBERED + '<img src="b.png" alt="b">', "a picture without a number"),
    ],
)
def test_it_is_found_and_named(tmp_path, body, what):
    [problem] = found(tmp_path, body)
    assert problem.startswith(f"page.html: {what}"), problem


@pytest.mark.parametrize(
    "body",
    [
        "<p>It costs $5 or $6; a | b; 50% of it; $http_proxy and $https_proxy</p>",
        '<img class="toggler" src="_static/minus.png" alt="-">',
        r'<p><span class="math">\(s_\psi\)</span> and <code>$s_\psi$ | {eq}`x`</code></p>',
        '<div class="highlight"><pre># a comment\n$x_1$ **kwargs</pre></div>',
        "<script>// ## no text</script><style>/* **x** */</style>",
        NUMBERED,
        f"<figure>{NUMBERED}</figure>",
        '<figure class="arq-widget"><noscript><img src="a.png" alt="x"></noscript></figure>',
    ],
)
def test_words_code_and_numbered_figures_are_no_fault(tmp_path, body):
    assert found(tmp_path, body) == []


def test_a_fault_is_told_once_with_how_many_more_and_templates_are_left_alone(tmp_path):
    bar = "<pre> 6%|▋ | 128/2000 [00:01&lt;00:14, 127.09it/s]</pre>"
    [problem] = found(tmp_path, bar * 9)
    assert problem.endswith("and 6 more")
    assert found(tmp_path, "<p>fine</p>") == []
    assert found(tmp_path, bar, "_static/template.html") == []
