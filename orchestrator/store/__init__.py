"""Every port in SQL. The door to SQLAlchemy. SQLite on one machine; the statements are plain enough for PostgreSQL."""
