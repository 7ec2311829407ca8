"""A model server for a board: bundles behind the KServe v2 REST protocol. Needs the extra `serve`.

`protocol` reads requests and writes responses, `models` holds the opened bundles, `app` answers, `server` listens.
"""
