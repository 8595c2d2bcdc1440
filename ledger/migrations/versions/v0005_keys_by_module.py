"""A vending key is held by each module for itself; a token says which module's key it counts for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NAME = ["supply_group", "key_revision", "key_type", "key_generation", "base_date"]


def upgrade() -> None:
    op.add_column("token", sa.Column("module", sa.Text(), nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint(op.f("pk_vending_key"), "vending_key", type_="primary")
        op.create_primary_key(op.f("pk_vending_key"), "vending_key", [*_NAME, "module"])
        return
    # SQLite changes no primary key: the table is made anew, with everything that is in it.
    old = sa.Table("vending_key", sa.MetaData(), autoload_with=op.get_bind())
    columns = [
        sa.Column(column.name, column.type, nullable=column.nullable, autoincrement=False) for column in old.columns
    ]
    new = op.create_table(
        "vending_key_new",
        *columns,
        sa.CheckConstraint("tokens_made <= token_limit", name=op.f("ck_vending_key_token_limit")),
        sa.CheckConstraint("units_made_tenths <= units_limit_tenths", name=op.f("ck_vending_key_units_limit")),
        sa.PrimaryKeyConstraint(*_NAME, "module", name=op.f("pk_vending_key")),
    )
    names = [column.name for column in columns]
    op.execute(new.insert().from_select(names, sa.select(*(old.c[name] for name in names))))
    op.drop_table("vending_key")
    op.rename_table("vending_key_new", "vending_key")
