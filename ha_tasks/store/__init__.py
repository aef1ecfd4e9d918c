"""The state store: SQLAlchemy tables, repositories, migrations."""
