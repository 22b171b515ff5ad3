"""Names under which a page's cells display what Sphinx and the tests read; nothing is imported here."""

CLAIMS_MIME = "application/vnd.fieldguide.claims+json"
FIGURE_MIME = "application/vnd.fieldguide.figure+json"
TABLE_MIME = "application/vnd.fieldguide.table+json"
