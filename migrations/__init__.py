"""The database schema, revision by revision; packaged, so that an installed server can migrate."""
