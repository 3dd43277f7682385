"""What Alembic runs: it only renders SQL (see the package)."""

from alembic import context

options = context.config.attributes
context.configure(
    dialect_name=options["dialect"],
    dialect_opts={"paramstyle": "named"},
    output_buffer=options["statements"],
    transactional_ddl=False,
    as_sql=True,
)
context.run_migrations()
