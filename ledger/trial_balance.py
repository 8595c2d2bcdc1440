"""The trial balance, and the invariants that hold after any history. Functions of a connection; they only read."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from ledger import tables
from ledger.accounts import Side, kind_of


@dataclass(frozen=True, slots=True)
class Line:
    """One account: its code and its balance, on the side where it stands."""

    code: str
    debit_minor: int
    credit_minor: int


def trial_balance(connection: sa.Connection) -> list[Line]:
    """Every account that was posted to, in the order of the chart; the two columns have equal sums."""
    p, a = tables.posting, tables.account
    total = sa.func.sum(p.c.amount_minor)
    rows = connection.execute(
        sa.select(a.c.code, total).join_from(p, a, p.c.account_id == a.c.id, isouter=True).group_by(a.c.code)
    )
    lines = []
    for code, amount in rows:
        amount = int(amount)
        lines.append(Line(code or "(not in the chart)", max(0, -amount), max(0, amount)))
    return sorted(lines, key=lambda line: (_is_credit(line.code), line.code))


def _is_credit(code: str) -> bool:
    return code[0] != "(" and kind_of(code).side is Side.CREDIT


# A counter sale counts for its shift and its day once its money is held or taken, until the drawer gives it back;
# what the office pays out in its place stays in the drawer.
_COUNTED = """
    (EXISTS (SELECT 1 FROM txn t WHERE t.id = c.purchase_id AND t.kind = 'sale') AND
     (NOT EXISTS (SELECT 1 FROM txn r WHERE r.reverses = c.purchase_id) OR
      EXISTS (SELECT 1 FROM txn o WHERE o.purchase_id = c.purchase_id AND o.kind = 'payout')) OR
     EXISTS (SELECT 1 FROM hold h WHERE h.purchase_id = c.purchase_id AND h.state = 'PENDING'))"""

# Each gives rows only where something is wrong (ledger rules I1 to I5).
_INVARIANTS: dict[str, str] = {
    "a transaction's postings do not sum to zero": """
        SELECT txn_id FROM posting GROUP BY txn_id HAVING sum(amount_minor) <> 0 OR count(*) < 2""",
    "a transaction has no postings": """
        SELECT id FROM txn WHERE NOT EXISTS (SELECT 1 FROM posting WHERE posting.txn_id = txn.id)""",
    "a posting has no transaction": """
        SELECT txn_id FROM posting WHERE NOT EXISTS (SELECT 1 FROM txn WHERE txn.id = posting.txn_id)""",
    "a limited balance is not the sum of its postings": """
        SELECT account_id FROM limited_balance b WHERE posted_minor <>
        (SELECT coalesce(sum(amount_minor), 0) FROM posting p WHERE p.account_id = b.account_id)""",
    "a limited balance's pending part is not the sum of its holds": """
        SELECT account_id FROM limited_balance b WHERE pending_minor <>
        (SELECT coalesce(sum(amount_minor), 0) FROM hold h
         WHERE h.account_id = b.account_id AND h.state = 'PENDING')""",
    "a limited balance is below its floor": """
        SELECT account_id FROM limited_balance WHERE posted_minor - pending_minor < floor_minor""",
    "a vended purchase has not exactly one transaction": """
        SELECT p.id FROM purchase p LEFT JOIN
        (SELECT purchase_id, count(*) AS sales FROM txn WHERE kind = 'sale' GROUP BY purchase_id) t
        ON t.purchase_id = p.id WHERE p.state IN ('VENDED', 'DELIVERED') AND coalesce(t.sales, 0) <> 1""",
    "a sale belongs to a purchase that was not vended": """
        SELECT txn.id FROM txn JOIN purchase p ON p.id = txn.purchase_id
        WHERE txn.kind = 'sale' AND p.state NOT IN ('VENDED', 'DELIVERED', 'SEALED', 'REFUNDED')""",
    "a sale that stands was reversed, or one that was undone was not": """
        SELECT p.id FROM purchase p JOIN txn s ON s.purchase_id = p.id AND s.kind = 'sale'
        LEFT JOIN txn r ON r.reverses = s.id WHERE p.state IN ('VENDED', 'DELIVERED') AND r.id IS NOT NULL
        OR p.state IN ('SEALED', 'REFUNDED') AND (r.id IS NULL OR r.purchase_id <> p.id)
        OR p.state = 'SEALED' AND r.kind <> 'reversal' OR p.state = 'REFUNDED' AND r.kind <> 'refund'""",
    "a purchase was undone without having been sold": """
        SELECT id FROM purchase p WHERE state IN ('SEALED', 'REFUNDED') AND
        NOT EXISTS (SELECT 1 FROM txn WHERE txn.purchase_id = p.id AND txn.kind = 'sale')""",
    "what was undone is not the contrary of what was posted": """
        SELECT r.id FROM txn r JOIN posting p ON p.txn_id IN (r.id, r.reverses) WHERE r.reverses IS NOT NULL
        GROUP BY r.id, p.account_id HAVING sum(p.amount_minor) <> 0""",
    "a sealed token was shown apart from its own reply, or is still owed": """
        SELECT p.id FROM purchase p WHERE p.state = 'SEALED' AND
        (EXISTS (SELECT 1 FROM disclosure d WHERE d.purchase_id = p.id) AND
         EXISTS (SELECT 1 FROM token t WHERE t.purchase_id = p.id) OR
         EXISTS (SELECT 1 FROM outbox o WHERE o.request_id = p.id AND o.state = 'OWED'
                 AND o.message IN ('sold', 'sold_no_token', 'corrected')))""",
    "a token that was sold again had been seen, or did not go over": """
        SELECT r.id FROM resale r JOIN purchase s ON s.id = r.sealed_id WHERE s.state <> 'SEALED'
        OR EXISTS (SELECT 1 FROM token t WHERE t.purchase_id = s.id)
        OR EXISTS (SELECT 1 FROM disclosure d WHERE d.purchase_id = s.id)
        OR EXISTS (SELECT 1 FROM outbox o WHERE o.request_id = s.id AND o.state <> 'WITHDRAWN'
                   AND o.message IN ('sold', 'corrected'))
        OR (SELECT count(*) FROM token t WHERE t.purchase_id = r.purchase_id) <> r.tokens
           AND NOT EXISTS (SELECT 1 FROM resale x WHERE x.sealed_id = r.purchase_id)""",
    "a token was sent out that was not sold": """
        SELECT o.id FROM outbox o LEFT JOIN purchase p ON p.id = o.request_id WHERE o.message IN ('sold', 'corrected')
        AND o.state IN ('SENT', 'OWED')
        AND (p.id IS NULL OR p.state NOT IN ('VENDED', 'DELIVERED', 'REFUNDED', 'SEALED'))""",
    "two corrections of one sale stand": """
        SELECT c.purchase_id FROM correction c JOIN correction_state s ON s.correction_id = c.id AND s.seq =
        (SELECT max(seq) FROM correction_state WHERE correction_id = c.id) WHERE s.state <> 'REFUSED'
        GROUP BY c.purchase_id HAVING count(*) > 1""",
    "a correction was approved by whoever asked for it": """
        SELECT c.id FROM correction c JOIN correction_state s ON s.correction_id = c.id
        WHERE s.state <> 'ASKED' AND s.who = c.asked_by""",
    "a correction that was approved has nothing to show, or one that was not has": """
        SELECT c.id FROM correction c WHERE
        (EXISTS (SELECT 1 FROM correction_state s WHERE s.correction_id = c.id AND s.state = 'APPROVED')) <>
        (EXISTS (SELECT 1 FROM correction_state s JOIN purchase p ON p.id = s.issue_id WHERE s.correction_id = c.id)
         OR c.kind = 'REFUND_MONEY' AND EXISTS (SELECT 1 FROM purchase p WHERE p.id = c.purchase_id
         AND p.state = 'REFUNDED') AND NOT EXISTS (SELECT 1 FROM correction_state s
         WHERE s.correction_id = c.id AND s.state = 'REFUSED'))""",
    "a refund has no correction that two people agreed on": """
        SELECT p.id FROM purchase p WHERE p.state = 'REFUNDED' AND NOT EXISTS (SELECT 1 FROM correction c
        JOIN correction_state s ON s.correction_id = c.id WHERE c.purchase_id = p.id AND s.state = 'APPROVED'
        AND c.kind = 'REFUND_MONEY')""",
    "a correction whose token was made has not used its money, or one whose token failed has lost it": """
        SELECT c.id FROM correction c JOIN account a ON a.code = 'case:' || c.code
        JOIN limited_balance b ON b.account_id = a.id WHERE b.posted_minor <>
        CASE WHEN EXISTS (SELECT 1 FROM correction_state s JOIN purchase p ON p.id = s.issue_id
                          WHERE s.correction_id = c.id AND p.state IN ('VENDED', 'DELIVERED')) THEN 0
        WHEN EXISTS (SELECT 1 FROM correction_state s WHERE s.correction_id = c.id AND s.state = 'APPROVED')
        THEN c.amount_minor ELSE 0 END""",
    "an account payment has not exactly one transaction of its amount": """
        SELECT a.id FROM account_payment a LEFT JOIN txn t ON t.id = a.id AND t.kind = 'account_payment'
        LEFT JOIN posting p ON p.txn_id = t.id AND p.account_id = a.source_id
        WHERE t.id IS NULL OR coalesce(-p.amount_minor, 0) <> a.amount_minor""",
    "a vended purchase has energy and no token": """
        SELECT id FROM purchase WHERE state IN ('VENDED', 'DELIVERED') AND units_tenths > 0 AND
        (SELECT count(*) FROM token t WHERE t.purchase_id = purchase.id AND t.kind = 'credit' AND t.digits IS NOT NULL)
        <> 1""",
    "a token was made for a purchase that was not vended": """
        SELECT t.purchase_id FROM token t JOIN purchase p ON p.id = t.purchase_id
        WHERE t.kind <> 'key_change' AND t.digits IS NOT NULL
        AND p.state NOT IN ('VENDED', 'DELIVERED', 'SEALED', 'REFUNDED')""",
    "a vended purchase has no reply": """
        SELECT id FROM purchase WHERE state IN ('VENDED', 'DELIVERED') AND sender <> '' AND
        NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.request_id = purchase.id)""",
    "the arrears account is not the sum of the debts": """
        SELECT a.id FROM account a WHERE a.code = 'receivable:arrears' AND
        (SELECT coalesce(sum(amount_minor), 0) FROM posting p WHERE p.account_id = a.id)
        + (SELECT coalesce(sum(outstanding_minor), 0) FROM debt) <> 0""",
    "the carry account is not the sum of what the service points keep": """
        SELECT a.id FROM account a WHERE a.code = 'carry:customers' AND
        (SELECT coalesce(sum(amount_minor), 0) FROM posting p WHERE p.account_id = a.id)
        <> (SELECT coalesce(sum(carry_minor), 0) FROM service_point)""",
    "a source's suspense is not the sum of its items": """
        SELECT a.id FROM account a WHERE a.kind = 'suspense' AND
        (SELECT coalesce(sum(amount_minor), 0) FROM posting p WHERE p.account_id = a.id) <>
        (SELECT coalesce(sum(amount_minor), 0) FROM suspense i
         WHERE 'suspense:' || i.source = a.code AND i.state <> 'RESOLVED')""",
    "an order waits for a payment that nothing is expected of": """
        SELECT p.id FROM purchase p WHERE p.state = 'AWAITING' AND NOT EXISTS (SELECT 1 FROM payment y
        WHERE y.purchase_id = p.id AND y.state IN ('OWED', 'ASKED', 'UNCLEAR'))""",
    "a payment is booked and not paid, or paid and nowhere booked": """
        SELECT id FROM payment WHERE (state = 'PAID' AND (paid_at IS NULL OR paid_minor IS NULL OR account_id IS NULL))
        OR (state IN ('OWED', 'ASKED', 'UNCLEAR', 'FAILED', 'EXPIRED') AND paid_at IS NOT NULL)""",
    "a service point waits for a purchase that has ended": """
        SELECT s.id FROM service_point s JOIN purchase p ON p.id = s.vending
        WHERE p.state NOT IN ('VENDING', 'CANCELLING', 'RETURNING')""",
    "a shift's totals are not those of its sales": f"""
        SELECT id FROM (SELECT id, sold_count AS n, sold_cash_minor AS cash, sold_card_minor AS card,
        sold_cheque_minor AS cheque FROM shift UNION ALL SELECT c.shift_id, -1, -c.cash_minor, -c.card_minor,
        -c.cheque_minor FROM counter_sale c WHERE c.shift_id IS NOT NULL AND {_COUNTED}) x GROUP BY id
        HAVING sum(n) <> 0 OR sum(cash) <> 0 OR sum(card) <> 0 OR sum(cheque) <> 0""",
    "an operator's day is not the sum of its sales": f"""
        SELECT login, day FROM (SELECT login, day, sold_count AS n, sold_minor AS sold FROM seller_day
        WHERE login NOT LIKE '+%' UNION ALL
        SELECT c.login, c.day, -1, -c.cash_minor - c.card_minor - c.cheque_minor FROM counter_sale c
        WHERE {_COUNTED}) x GROUP BY login, day HAVING sum(n) <> 0 OR sum(sold) <> 0""",
    "a shift's payments are not those it took": """
        SELECT id FROM (SELECT id, paid_count AS n, paid_cash_minor AS cash, paid_card_minor AS card,
        paid_cheque_minor AS cheque FROM shift UNION ALL SELECT c.shift_id, -1, -c.cash_minor, -c.card_minor,
        -c.cheque_minor FROM counter_payment c WHERE c.shift_id IS NOT NULL) x GROUP BY id
        HAVING sum(n) <> 0 OR sum(cash) <> 0 OR sum(card) <> 0 OR sum(cheque) <> 0""",
    "a payment's tenders are not its amount, or it did not come in by its station": """
        SELECT c.payment_id FROM counter_payment c LEFT JOIN account_payment a ON a.id = c.payment_id
        LEFT JOIN station s ON s.code = c.station AND s.account_id = a.source_id
        WHERE s.id IS NULL OR a.amount_minor <> c.cash_minor + c.card_minor + c.cheque_minor""",
    "a closed account has money or waits for some": """
        SELECT account_id FROM limited_balance WHERE closed_at IS NOT NULL
        AND (posted_minor <> 0 OR pending_minor <> 0)""",
    "what vouchers are worth that were sold and not used is not what the books owe": """
        SELECT owed FROM (SELECT
        coalesce((SELECT sum(p.amount_minor) FROM posting p JOIN account a ON a.id = p.account_id
        WHERE a.code = 'voucher:issued'), 0) -
        coalesce((SELECT sum(value_minor) FROM voucher WHERE state = 'SOLD'), 0) AS owed) x WHERE owed <> 0""",
    "a counter sale's tenders are not its amount": """
        SELECT c.purchase_id FROM counter_sale c LEFT JOIN purchase p ON p.id = c.purchase_id
        WHERE coalesce(p.amount_minor, 0) <> c.cash_minor + c.card_minor + c.cheque_minor""",
    "a deposit is not posted as its state says": """
        SELECT d.id FROM deposit d LEFT JOIN station s ON s.id = d.station_id
        LEFT JOIN customer c ON c.id = d.customer_id
        LEFT JOIN posting p ON p.txn_id = d.txn_id AND p.account_id = coalesce(s.account_id, c.wallet_id)
        WHERE (s.id IS NULL) = (c.id IS NULL) OR coalesce(p.amount_minor, 0) <>
        CASE WHEN d.state IN ('APPROVED', 'REVERSED') THEN d.amount_minor ELSE 0 END""",
    "a reversed deposit has not its reversal": """
        SELECT d.id FROM deposit d LEFT JOIN txn t ON t.id = d.reversal_id AND t.reverses = d.txn_id
        WHERE (d.state = 'REVERSED') <> (t.id IS NOT NULL)""",
    "a deposit was posted that nobody entered": """
        SELECT id FROM txn WHERE kind = 'deposit' AND NOT EXISTS (SELECT 1 FROM deposit d WHERE d.txn_id = txn.id)""",
    "a settlement is not posted as it says": """
        SELECT b.id FROM settlement_batch b LEFT JOIN account a ON a.code = 'clearing:' || b.source
        LEFT JOIN posting p ON p.txn_id = b.txn_id AND p.account_id = a.id
        WHERE coalesce(p.amount_minor, 0) <> b.paid_minor + b.fee_minor""",
    "a settlement's fees are not those of its lines": """
        SELECT id FROM (SELECT id, fee_minor AS fee FROM settlement_batch UNION ALL
        SELECT batch_id, -fee_minor FROM settlement_item WHERE batch_id IS NOT NULL) x
        GROUP BY id HAVING sum(fee) <> 0""",
    "a settlement was posted that nobody booked": """
        SELECT id FROM txn WHERE kind = 'settlement' AND
        NOT EXISTS (SELECT 1 FROM settlement_batch b WHERE b.txn_id = txn.id)""",
    "a statement's line is not exactly one item": """
        SELECT l.id FROM statement_line l LEFT JOIN settlement_item i ON i.line_id = l.id WHERE i.id IS NULL""",
    "a payment goes with two lines": """
        SELECT i.payment_id FROM settlement_item i JOIN statement_line l ON l.id = i.line_id AND l.kind = 'PAYMENT'
        WHERE i.class IN ('MATCHED', 'AMOUNT_DIFFERS', 'FEE_DIFFERS') GROUP BY i.payment_id HAVING count(*) > 1""",
    "a shift's difference is not posted as its state says": """
        SELECT h.id FROM shift h JOIN station s ON s.id = h.station_id
        LEFT JOIN posting p ON p.txn_id = h.txn_id AND p.account_id = s.account_id
        WHERE coalesce(p.amount_minor, 0) <> CASE WHEN h.state = 'ACKNOWLEDGED' AND s.funding = 'CREDIT'
        THEN h.sold_minor + h.paid_cash_minor + h.paid_card_minor + h.paid_cheque_minor
        - h.counted_cash_minor - h.counted_card_minor - h.counted_cheque_minor ELSE 0 END""",
    "a shift's counted cash is not what was counted of each denomination": """
        SELECT id FROM (SELECT id, counted_cash_minor + float_minor AS cash FROM shift WHERE state <> 'OPEN' UNION ALL
        SELECT shift_id, -denomination_minor * pieces FROM shift_count) x GROUP BY id HAVING sum(cash) <> 0""",
    "a banking batch is not the sum of its shifts": """
        SELECT id FROM (SELECT id, amount_minor AS amount FROM banking_batch WHERE state <> 'OPEN' UNION ALL
        SELECT h.batch_id, -h.counted_cash_minor - h.counted_cheque_minor FROM shift h
        JOIN banking_batch b ON b.id = h.batch_id WHERE b.state <> 'OPEN') x GROUP BY id HAVING sum(amount) <> 0""",
    "a banking batch and its deposit disagree": """
        SELECT b.id FROM banking_batch b LEFT JOIN deposit d ON d.id = b.deposit_id
        WHERE coalesce(d.state, '') <> CASE WHEN b.state = 'BANKED' THEN 'ENTERED'
        WHEN b.state = 'CONFIRMED' AND b.amount_minor <> 0 THEN 'APPROVED' ELSE '' END
        OR coalesce(d.amount_minor, 0) <> coalesce(b.amount_minor, 0)""",
}


def broken_invariants(connection: sa.Connection) -> list[str]:
    """What is wrong with the books: one sentence and a count for each broken rule; empty when all is well."""
    broken = []
    for sentence, query in _INVARIANTS.items():
        count = len(connection.execute(sa.text(query)).fetchall())
        if count:
            broken.append(f"{sentence} ({count})")
    return broken
