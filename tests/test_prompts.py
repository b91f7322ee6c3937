"Prompts that a student types, read by `parse`: what they mean, or which words of the error help"
import pytest
from lucidteach.prior.words import Attributes, parse

def A(category=None, color=None, pattern='plain', view=None, background='white', **kw): return Attributes(category, color, pattern, view, background, **kw)
front, side, back, top = 'front view', 'side view', 'back view', 'overhead view'

MEANT = {
    'red car': A('car', 'red'),
    'Red Car!': A('car', 'red'),
    'a car that is red': A('car', 'red'),
    'a photo of a red car': A('car', 'red'),
    'RED CAR FRONT VIEW': A('car', 'red', view=front),
    'a red car, front': A('car', 'red', view=front),
    'a plain red car': A('car', 'red'),
    'a solid red car': A('car', 'red'),
    'a red-colored car': A('car', 'red'),
    'a sports car': A('car'),
    'a light blue car': A('car', 'blue'),
    'a car from the rear': A('car', view=back),
    'a red car, white background, studio lighting': A('car', 'red'),
    'a big red house with a blue background': A('house', 'red', background='blue'),
    'a house, right side': A('house', view=side),
    'a cottage in the style of a cartoon': A('house'),
    'a yellow rubber duck, front view': A('duck', 'yellow', view=front),
    'a rubber ducky': A('duck'),
    'a low-quality picture of a duck': A('duck', corruption='low_quality'),
    'the back of a teddy bear': A('teddy', view=back),
    'Teddy bear from behind.': A('teddy', view=back),
    'close-up of a teddy bear': A('teddy'),
    'a teddy facing the camera': A('teddy', view=front),
    'a teddy bear facing away': A('teddy', view=back),
    'a DSLR photo of a purple sofa': A('sofa', 'purple'),
    'a very detailed couch, 8k, HDR': A('sofa'),
    'a high-quality 3D render of a brown guitar': A('guitar', 'brown'),
    'an acoustic guitar': A('guitar'),
    'a striped umbrella': A('umbrella', pattern='striped'),
    'an umbrella with red stripes': A('umbrella', 'red', 'striped'),
    'a red and white striped umbrella': A('umbrella', 'red', 'striped'),
    'a white-and-red striped umbrella': A('umbrella', 'red', 'striped'),
    'a blue mug with white polka dots': A('mug', 'blue', 'dotted'),
    'a yellow mug with blue dots': A('mug', 'yellow', 'dotted'),
    'a polka dot mug': A('mug', pattern='dotted'),
    'a polkadot coffee cup': A('mug', pattern='dotted'),
    'a mug with a striped pattern': A('mug', pattern='striped'),
    'a coffee cup seen from the top': A('mug', view=top),
    'a cup of coffee': A('mug'),
    'a teacup': A('mug'),
    'a red Mug, back-view': A('mug', 'red', view=back),
    'white mug on black': A('mug', 'white', background='black'),
    'a mug on a white background': A('mug'),
    'a mug on a plain background': A('mug'),
    'a white mug against a black background': A('mug', 'white', background='black'),
    'a mug in front of a pink background': A('mug', background='pink'),
    'a mug on a light grey background': A('mug', background='gray'),
    'a red polka-dotted mushroom': A('mushroom', 'red', 'dotted'),
    'a spotted toadstool': A('mushroom', pattern='dotted'),
    "bird's-eye view of a boat": A('boat', view=top),
    'bird\u2019s eye view of a boat': A('boat', view=top),
    'top-down view of a boat': A('boat', view=top),
    'an aerial view of a castle': A('castle', view=top),
    'an isometric view of a castle': A('castle'),
    'view from above of a bed': A('bed', view=top),
    'a rocket ship': A('rocket'),
    'a spaceship, viewed from the side': A('rocket', view=side),
    'a toy robot, left side view': A('robot', view=side),
    'a cute little robot, octane render, 4k, trending on artstation': A('robot'),
    'a chair seen from the left': A('chair', view=side),
    'a maroon armchair': A('chair', 'red'),
    'a wooden chair': A('chair'),
    'a depth map of a chair, side view': A('chair', view=side, kind='depth'),
    'depth map: a chair': A('chair', kind='depth'),
    'a boy': A('person'),
    'a woman standing, side-on': A('person', view=side),
    'a pine-tree': A('tree'),
    'a christmas tree': A('tree'),
    'a dark green wine bottle': A('bottle', 'green'),
    'a bright red plane': A('plane', 'red'),
    'an airplane, head-on': A('plane', view=front),
    'a blurry photo of a cake': A('cake', corruption='blurry'),
    'a cake, out of focus': A('cake', corruption='blurry'),
    'a chocolate cake': A('cake', 'brown'),
    'a gold clock': A('clock', 'yellow'),
    'a clock, yellow background, three-quarter view': A('clock', background='yellow'),
    'a goldfish': A('fish'),
    'a tea pot': A('teapot'),
    'a violet lamp with dots': A('lamp', 'purple', 'dotted'),
    'a dining table': A('table'),
    'a black top hat': A('hat', 'black'),
    'a snowman': A('snowman'),
    'a cactus': A('cactus'),
    'low quality': A(corruption='low_quality'),
}

REFUSED = {
    '': 'names no object: add one of mug',
    'a red object': 'names no object',
    'a rose': 'names no object',
    'a red mgu': 'did you mean mug',
    'an umbrela': 'did you mean umbrella',
    'a purpel car': 'did you mean purple',
    'a black cat': "unknown word 'cat'",
    'a xylophone': 'Objects: mug',
    'a красный mug': "unknown word 'красный'",
    'a 红色 mug': "unknown word '红色'",
    'a röd mug': "unknown word 'röd'",
    'a checkered mug': 'Patterns: plain, striped, dotted',
    'two cups': 'shows one object',
    'cars': 'shows one object',
    'a red blue mug': "both 'red' and 'blue': name one color",
    'a red hat with green dots': 'pattern on a red object is white',
    'a snowman wearing a purple hat': "both 'snowman' and 'hat'",
    'a mug, front view, back view': "both 'front view' and 'back view'",
    'a gray castle': "'gray' is a background ('on gray')",
    'a teal boat': 'the nearest are green and blue',
    'a turquoise fish': 'the nearest are green and blue',
    'a mug on a table': "unknown background 'table'",
    'a mug on a red background': "unknown background 'red'",
    'a hat seen from below': 'nothing is seen from below',
    'a house made of straw': "unknown word 'straw'",
}

@pytest.mark.parametrize('prompt', MEANT)
def test_meant(prompt): assert parse(prompt) == MEANT[prompt]

@pytest.mark.parametrize('prompt', REFUSED)
def test_refused(prompt):
    with pytest.raises(ValueError) as e: parse(prompt)
    assert REFUSED[prompt] in str(e.value)

@pytest.mark.parametrize('prompt', [None, 7, ['a mug'], b'a mug'])
def test_not_a_string(prompt):
    with pytest.raises(ValueError, match='a prompt is a str'): parse(prompt)

def test_every_word_of_the_captions_is_read():
    "All synonyms in all places, not those that a sample happens to hold"
    from lucidteach.prior import world
    from lucidteach.prior.words import COLOR_WORDS, CORRUPTION_WORDS, DEPTH_WORDS, NOUNS, PATTERN_TAILS, PATTERN_WORDS, PREFIXES, VIEW_WORDS
    for tables, field in ((NOUNS, 'category'), (COLOR_WORDS, 'color'), (PATTERN_WORDS, 'pattern'), (VIEW_WORDS, 'view')):
        for value, words in tables.items():
            for w in words: assert getattr(parse(w if field == 'category' else f'a {w} mug' if field != 'view' else f'a mug, {w}'), field) == value, w
    for value, words in PATTERN_TAILS.items():
        for w in words: assert parse(f'a mug {w}').pattern == value
    for p in PREFIXES: assert parse(f'{p} a mug') == Attributes('mug')
    for p in DEPTH_WORDS: assert parse(f'{p} a mug').kind == 'depth'
    for value, words in CORRUPTION_WORDS.items():
        for w in words: assert parse(f'a mug, {w}').corruption == parse(w).corruption == value
    for b in world.BACKGROUNDS:
        for text in (f'a mug on {b}', f'a mug on a {b} background'): assert parse(text).background == b
