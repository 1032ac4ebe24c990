"""What benchmarks wrote is shown as it is."""

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from arq_core.figures import speed

LINE = dict(
    title="a step",
    per="step",
    competitors={
        "ours": dict(
            milliseconds=2.0,
            times_ours=1.0,
            smallest=1.0,
            largest=1.0,
            gflops=50.0,
            product_gflops=100.0,
            share_of_products=0.5,
        ),
        "theirs": dict(milliseconds=8.0, times_ours=4.0, smallest=3.5, largest=4.5),
        "products, float32": dict(milliseconds=0.1, times_ours=0.05, smallest=0.05, largest=0.05),
    },
)
SETTINGS = [
    dict(
        score="exact",
        A=1,
        sampler="dpmpp_2m",
        grid="log_snr_grid",
        evaluations=20,
        precision="float32",
        coupled=False,
        ratio=1.05,
        z=0.4,
        off_support=0.001,
    ),
    dict(score="exact", A=3, sampler="truth", ratio=0.98, z=-0.2, off_support=0.0),
    dict(
        score="exact",
        A=3,
        density="same_solve",
        grid="t ~ u^4",
        evaluations=16,
        probes=0,
        mean_abs=0.01,
        kept_agreement=1.0,
    ),
    dict(score="exact", A=3, density="rk45", probes=10, mean_abs=0.2, kept_agreement=0.99),
]


def test_speed_table_has_a_line_per_competitor_with_its_ratio_and_share():
    table = speed.speed_table(LINE)
    assert list(table.index) == ["ours", "theirs"] and table.index.name == "a step, a step"
    assert table.loc["theirs", "times ours"] == "4 (3.5 to 4.5)"
    assert table.loc["ours", "of products"] == "50%"


def test_fidelity_and_density_tables_have_a_column_per_action_dimension():
    samplers, densities = (
        speed.fidelity_table(SETTINGS, "exact"),
        speed.density_table(SETTINGS, "exact"),
    )
    assert samplers.loc["DPM++(2M) log-SNR 20", "A = 1"] == "1.1 (0.4) 0.10%"
    assert (
        samplers.loc["truth", "A = 3"] == "0.98 (-0.2) 0.00%"
        and samplers.loc["truth", "A = 1"] == ""
    )
    assert densities.loc["walk t ~ u^4 16 exact", "A = 3"] == "0.01 nats, 100.0%"
    assert densities.loc["rk45 10 probes", "A = 3"] == "0.2 nats, 99.0%"


def test_growth_is_drawn_beside_proportional_growth():
    _, ax = plt.subplots()
    speed.draw_growth(
        ax,
        [dict(axis="states", value=v, seconds=s) for v, s in ((100, 1.0), (1000, 9.0))],
        "states",
    )
    measured, proportional = (line.get_ydata().tolist() for line in ax.lines)
    assert measured == [1.0, 9.0] and proportional == [1.0, 10.0]
    plt.close()


def test_kernels_of_two_states_stand_side_by_side_and_what_was_not_measured_again_is_empty():
    loop = dict(kernels=2.0, kernels_us=10.0, wall_us=20.0)
    profile = dict(
        before=dict(commit="aaa", x=loop, **{"300 states, 20 evaluations": loop}),
        after=dict(commit="bbb", x=loop | dict(kernels=1.0, kernels_us=4000.0)),
    )
    table = speed.kernels_table(profile)
    assert list(table.columns) == ["us before", "kernels before", "us after", "kernels after"]
    assert list(table.loc["x"]) == ["10", "2", "4,000", "1"] and list(table.loc["300 states"]) == [
        "10",
        "2",
        "",
        "",
    ]


def test_what_the_page_says_of_a_gpu_is_read_from_the_measurements():
    steps = {"ours": dict(milliseconds=0.3), "JAX, jit + scan, one seed": dict(milliseconds=0.12)}
    cuda = dict(
        cuda=[
            dict(title=f"{loop}, three seeds at once", competitors=steps)
            for loop in ("score_step", "arq_step")
        ]
    )
    said = speed.gpu_headline(
        cuda, dict(before={"300 states x": dict(wall_us=31e3, kernels_us=7e3)})
    )
    assert (
        "5.0 minutes for the score model" in said
        and "JAX takes 2.0 and 2.0 for one seed" in said
        and "31 ms, of which the device worked 7" in said
    )
