"""A replica: a model's answers and its loops in one process, alone or with others in a pool.

board --table--> Follower --> Arms --> Inference, behind the routes of `app`
"""
