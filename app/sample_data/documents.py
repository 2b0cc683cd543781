"""The help centre and the runbooks of the demo tenant, as documents ready to be ingested."""

from dataclasses import dataclass
from importlib.resources import files

from app.kb.chunking import MimeType
from app.kb.documents import DocumentInput

_SECTIONS = {
    "account": (
        "sign-in-help", "two-factor-lost-phone", "team-invitations", "roles-and-permissions",
        "report-phishing",
    ),
    "billing": (
        "change-plan", "cancel-subscription", "refunds", "failed-card-payment", "read-your-invoice", "vat",
    ),
    "data": ("export-your-data", "gdpr-erasure", "import-customers-csv", "data-retention"),
    "bookings": ("calendar-sync", "time-zones", "double-bookings", "no-show-policy"),
    "stock": ("stock-counts", "low-stock-alerts"),
    "devices": ("barcode-scanner", "receipt-printer", "mobile-offline-mode", "browser-support"),
    "developers": ("api-keys", "webhooks", "rate-limits"),
    "platform": (
        "status-and-incidents", "notification-delivery", "accessibility", "release-notes-4-12", "glossary",
    ),
    "audit": ("audit-trail-contents", "read-an-audit-event", "audit-events-are-final"),
    "runbooks": ("escalation-policy", "refund-approval-limits", "tone-of-voice", "angry-customer"),
}  # fmt: skip
_AUDIENCES = {"runbooks": "agents", "developers": "developers"}
_SECTION_OF = {slug: section for section, slugs in _SECTIONS.items() for slug in slugs}


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleDocument(DocumentInput):
    """One page of the demo tenant; its metadata holds `section` and `audience`."""

    text: str


def sample_documents() -> list[SampleDocument]:
    """Return all sample documents, ordered by their external id."""
    folder = files("app.sample_data") / "documents"
    pages = {page.name.removesuffix(".md"): page.read_text("utf-8") for page in folder.iterdir()}
    return [_document(slug, text) for slug, text in sorted(pages.items())]


def _document(slug: str, text: str) -> SampleDocument:
    section = _SECTION_OF[slug]
    return SampleDocument(
        external_id=slug,
        title=text.splitlines()[0].removeprefix("# "),
        source_uri=f"https://help.larkspur.example/{slug}",
        mime_type=MimeType.MARKDOWN.value,
        metadata={"section": section, "audience": _AUDIENCES.get(section, "customers")},
        text=text,
    )
