"""Half of the nodes cannot reach the other half for a minute, and people go on working on both sides."""


def tell(story):
    story.nodes = 4
    story.faulty_s = 90
    story.at(5).partition(["n000", "n001", "district"], ["n002", "n003", "patient"])
    story.at(65).heal()
