"""A device key is stolen and shows two sides of a partition two histories; the root closes the device."""


def tell(story):
    story.nodes = 4
    story.faulty_s = 60
    story.at(5).partition(["n000", "n001", "district"], ["n002", "n003", "patient"])
    story.at(10).theft("n000", "n002")
    story.at(40).heal()
