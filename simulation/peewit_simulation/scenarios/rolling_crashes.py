"""Every node is killed or loses its power, one after another, while every link loses every tenth segment."""


def tell(story):
    story.nodes = 5
    story.faulty_s = 80
    story.at(0).lose(0.1)
    for number in range(5):
        name = f"n{number:03}"
        story.at(5 + 12 * number).crash(name, number % 2 == 0)
        story.at(13 + 12 * number).restart(name)
