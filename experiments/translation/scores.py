"""How good translations are: BLEU and chrF by sacreBLEU, each with its signature."""

from collections.abc import Sequence
from typing import Any

from jaxrnn.data.vocabulary import Vocabulary, words


def scores(
    written: Sequence[str], true: Sequence[str], vocabulary: Vocabulary
) -> dict[str, float | str]:
    """BLEU (Papineni et al. 2002), chrF (Popović 2015) and, for words, `token_bleu`.

    A vocabulary of words writes small letters with spaces between all words: BLEU and
    chrF then take no account of case. `token_bleu` is the BLEU of the tokens as they are,
    both sides in small letters, as tutorials score with torchtext. Raises ValueError where
    sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ModuleNotFoundError:
        raise ValueError("scores need sacrebleu: pip install 'jaxrnn[translate]'") from None
    cased = bool(vocabulary.merges)
    figures: dict[str, float | str] = {}

    def score(name: str, metric: Any, true: Sequence[str]) -> None:
        figures[name] = metric.corpus_score(written, [true]).score
        figures[f"{name}_signature"] = str(metric.get_signature())

    score("bleu", BLEU(lowercase=not cased, force=not cased), true)
    score("chrf", CHRF(lowercase=not cased), true)
    if not cased:
        tokens = [" ".join(words(sentence)) for sentence in true]
        exact = BLEU(tokenize="none", smooth_method="none", force=True)
        score("token_bleu", exact, tokens)
    return figures
