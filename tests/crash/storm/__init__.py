"""The storm: replicas over one PostgreSQL, many clients, and everything that can be killed is.

clients ask, and ask again with the same idempotency key, until they have an answer  ->  ``Received``
trouble kills, stops and restarts replicas, and the database                         ->  ``Troubled``
the checker reads what was received, the database and the CRLs, with none of our code ->  what is wrong
"""
