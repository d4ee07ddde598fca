"""The figure: written where asked, of the size promised, with nothing over anything else."""

import os
import struct
import unittest

from harness import FolderTest

import coppice_record
import demo_run
import figures
import labels
import make_fixture
import numpy as np
from matplotlib import image, pyplot
from matplotlib.text import Text

MS = make_fixture.MS


def png_size(path):
    with open(path, "rb") as file:
        head = file.read(24)
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


class Files(FolderTest):
    def test_beside_the_first_run(self):
        first, second = self.known("a.h5"), self.known("b.h5", seed=8)
        status, _, err = self.run_report(first, second)
        self.assertEqual((status, err), (0, f"figure: {first[:-3]}.png, {first[:-3]}.svg\n"))
        self.assertEqual(sorted(os.listdir(self.folder)), ["a.h5", "a.png", "a.svg", "b.h5"])
        self.assertEqual(png_size(self.path("a.png")), (1600, 1000))
        self.assertGreater(os.path.getsize(self.path("a.png")), 40000)
        self.assertGreater(os.path.getsize(self.path("a.svg")), 40000)

    def test_where_asked(self):
        path = self.known()
        self.run_report("-o", self.path("x"), path)
        self.run_report("--figure", self.path("y.png"), path)
        self.assertEqual(sorted(os.listdir(self.folder)), ["run.h5", "x.png", "x.svg", "y.png"])

    def test_same_run_same_bytes(self):
        path = self.known()
        for name in ("x", "y"):
            self.run_report("-o", self.path(name), path)
        for kind in ("png", "svg"):
            with open(self.path("x." + kind), "rb") as x, open(self.path("y." + kind), "rb") as y:
                self.assertEqual(x.read(), y.read(), kind)

    def test_shows_the_data(self):
        self.run_report("--figure", self.path("x.png"), self.known())
        pixels = (image.imread(self.path("x.png"))[:, :, :3] * 255).round().astype(int)

        def count(colour):
            rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
            return int((np.abs(pixels - rgb).sum(axis=2) == 0).sum())

        # areas are as the numbers: sums of the means of the four bars, in ms
        prefill = count(figures.PART_COLOURS["prefill"])
        queue = count(figures.PART_COLOURS["queue"])
        # all, no hit, partial, full: prefill 54 + 95 + 40 + 20, queue 23 + 50 + 15 + 0
        self.assertAlmostEqual(prefill / queue, 209 / 88, delta=0.15)
        self.assertGreater(count(figures.TOKEN_COLOURS["hit_migrated"][0]), 1000)


class Layout(FolderTest):
    def loaded(self, count):
        runs = []
        for i in range(count):
            path = self.path(f"run{i}.h5")
            demo_run.write_demo(path, demo_run.POLICIES[i % 3], 60, 2 + i, 6)
            runs.append(coppice_record.load(path))
        return runs

    def test_nothing_covers_anything(self):
        long = "sglang_cache_aware + replicate_hot + lru, number"
        for count, name in ((1, None), (2, None), (5, long)):
            with self.subTest(runs=count), pyplot.rc_context(figures.STYLE):
                runs = self.loaded(count)
                names = [f"{name} {i}" for i in range(count)] if name else labels.labels(runs)
                figure = figures.draw(runs, names)
                self.addCleanup(pyplot.close, figure)
                figure.canvas.draw()
                self.check_panels(figure)
                for axis in figure.axes:
                    self.check_apart([text.get_window_extent() for text in axis.texts])

    def check_panels(self, figure):
        panels = [axis.get_window_extent() for axis in figure.axes]
        self.check_apart(panels)
        legends = [axis.get_legend() for axis in figure.axes if axis.get_legend()]
        boxes = [legend.get_window_extent() for legend in [*legends, *figure.legends]]
        boxes += [axis.xaxis.label.get_window_extent() for axis in figure.axes if axis.get_xlabel()]
        titles = [
            child
            for axis in figure.axes
            for child in axis.get_children()
            if isinstance(child, Text) and child.get_text() == axis.get_title("left") != ""
        ]
        self.assertEqual(len(titles), 8)
        boxes += [title.get_window_extent() for title in titles]
        self.check_apart(boxes)
        for box in boxes:
            inside = box.x0 >= 0 and box.y0 >= 0
            self.assertTrue(inside and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, box)
            self.assertFalse(any(box.overlaps(panel) for panel in panels), box)

    def check_apart(self, boxes):
        for i, one in enumerate(boxes):
            for other in boxes[i + 1 :]:
                self.assertFalse(one.overlaps(other), (one, other))


class Busy(FolderTest):
    def test_shares_are_what_steps_cover(self):
        run = coppice_record.load(self.known())
        steps = run.steps[run.steps["worker"] == 1]  # 50..150 and 150..300 ms
        shares = figures.busy_shares(run, steps, np.array([0, 0.1, 0.2, 0.35, 1.0]))
        np.testing.assert_allclose(shares, [0.5, 1, 2 / 3, 0], atol=1e-12)


if __name__ == "__main__":
    unittest.main()
