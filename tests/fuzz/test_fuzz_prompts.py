"Prompts of the toy world"
import sys
from pathlib import Path
from hypothesis import given, strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from fuzz import check, inputs

def words():
    from lucidteach.prior import world
    from lucidteach.prior.words import FILLER, _PALE, lexicon
    return sorted({w for p in [*lexicon(), *FILLER, *world.BACKGROUNDS, *_PALE] for w in p.split()})

@inputs(40, 400)
@given(data=st.data())
def test_prompt(data):
    "The world's own words in any order, other words, and one phrase over and over"
    word = st.one_of(st.sampled_from(words()), st.sampled_from([",", "-", "'s", "a", "on", "and", "with", "background"]), st.text(max_size=6))
    text = " ".join(data.draw(st.lists(word, max_size=12)))
    check("prompt", 30, **{"prompt.txt": (text*data.draw(st.sampled_from([1, 1, 1, 20_000//(len(text) + 1) + 1]))).encode("utf-8", "replace")})
