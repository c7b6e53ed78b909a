"""The hub: classifies a request, applies the tenant's policy, dispatches the work to an agent, and keeps the ledger.

Features in an order (tenants, access, fleet beside ledger, routing, dispatch), each of plain models, pure rules and a port;
around them `store/`, `http/`, `broker`, `jobs`; on top `app`, the composition root, and `cli`.
"""
