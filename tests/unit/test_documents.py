"""The cache of valid documents: what goes in, what stays out."""

from uuid import UUID

from graphql import DocumentNode, parse

from graphql_schema.documents import DocumentCache, KnownDocument


def remember(cache: DocumentCache, text: str, times: int) -> None:
    """Offer a document so many times."""
    for _ in range(times):
        cache.remember(None, text, KnownDocument(parse(text)))


def found(cache: DocumentCache, owner: UUID | None, text: str) -> DocumentNode | None:
    """Return the syntax tree that the cache holds, if it does."""
    known = cache.find(owner, text)
    return None if known is None else known.node


def test_document_is_kept_from_its_second_sighting_on() -> None:
    """One sighting leaves nothing behind; the second keeps the document under its very text."""
    cache = DocumentCache()
    text = "{ viewer { subject } }"
    remember(cache, text, 1)
    assert cache.find(None, text) is None
    remember(cache, text, 1)
    assert found(cache, None, text) == parse(text)
    assert cache.find(None, text + " ") is None


def test_hostile_documents_neither_fill_the_memory_nor_push_out_what_is_in_use() -> None:
    """Ten thousand documents seen once each leave the one in use where it is."""
    cache = DocumentCache()
    in_use = "{ viewer { subject } }"
    remember(cache, in_use, 2)
    for number in range(10_000):
        text = f"{{ a{number}: viewer {{ subject }} }}"
        cache.remember(None, text, KnownDocument(parse(in_use)))
        assert cache.find(None, text) is None
    assert found(cache, None, in_use) == parse(in_use)


def test_cache_is_bounded_in_bytes_and_keeps_no_long_document() -> None:
    """Documents seen twice push out the oldest beyond 256 KiB of text; one over 16 KiB is never kept."""
    cache = DocumentCache()
    padding = "#" * 10_000
    texts = [f"{{ a{number}: viewer {{ subject }} }} {padding}" for number in range(40)]
    for text in texts:
        remember(cache, text, 2)
    kept = [text for text in texts if cache.find(None, text) is not None]
    assert kept == texts[-26:]
    long = "{ viewer { subject } } " + "#" * 17_000
    remember(cache, long, 3)
    assert cache.find(None, long) is None


def test_tenants_share_no_entry() -> None:
    """What one tenant has sent is unknown for another, whose speed would tell of it."""
    cache = DocumentCache()
    tenant, other = UUID(int=1), UUID(int=2)
    text = "{ viewer { subject } }"
    for _ in range(2):
        cache.remember(tenant, text, KnownDocument(parse(text)))
    assert found(cache, tenant, text) == parse(text)
    assert cache.find(other, text) is None
    cache.remember(other, text, KnownDocument(parse(text)))
    assert cache.find(other, text) is None
