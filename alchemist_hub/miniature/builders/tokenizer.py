"""A CLIP tokenizer for the miniature: the library's own class, in which every caption word is one token."""

from transformers import CLIPTokenizer

LENGTH = 24  # tokens, with start and end
START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(words: tuple[str, ...]) -> CLIPTokenizer:
    """Return a tokenizer whose byte-pair merges spell every one of `words` as a single token.

    Each word is built up letter by letter by merges of its own; a merge that another word needs first can break it, so
    words are learned one at a time, and what is left in pieces is merged further until nothing is.
    """
    alphabet = sorted({letter for word in words for letter in word})
    vocabulary = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    merges: list[tuple[str, str]] = []
    for word in words:
        pieces = _split(word, merges)
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = _split(word, merges)
    for left, right in merges:
        if left + right not in vocabulary:
            vocabulary.append(left + right)
    vocab = {token: index for index, token in enumerate([*vocabulary, START, END])}
    return CLIPTokenizer(
        vocab=vocab,
        merges=merges,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=LENGTH,
    )


def _split(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """Apply byte-pair merges in their order of rank, as the tokenizer will."""
    pieces = [*word[:-1], word[-1] + "</w>"]
    rank = {pair: index for index, pair in enumerate(merges)}
    while True:
        pairs = [
            (rank[pair], index) for index, pair in enumerate(zip(pieces, pieces[1:], strict=False)) if pair in rank
        ]
        if not pairs:
            return pieces
        _, at = min(pairs)
        pair = (pieces[at], pieces[at + 1])
        joined: list[str] = []
        index = 0
        while index < len(pieces):
            if tuple(pieces[index : index + 2]) == pair:
                joined.append(pair[0] + pair[1])
                index += 2
            else:
                joined.append(pieces[index])
                index += 1
        pieces = joined
