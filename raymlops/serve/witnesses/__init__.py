"""Who is told what became of requests: after their answers, of many at once.

inference --Exchange--> Statistics, which the protocols tell
                   `--> Witnesses --> Metrics, RequestLog, Spans, the tap's Recorder
"""
