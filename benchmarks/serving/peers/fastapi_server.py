"""FastAPI on uvicorn with uvloop and httptools, one process, a row at a time."""

import sys

import uvicorn
from common import Model, answer, parse
from fastapi import FastAPI, Request, Response

app, model = FastAPI(), Model()


@app.post("/inference")
async def infer(request: Request):
    request_id, row = parse(await request.body())
    return Response(answer(request_id, model([row])[0]), media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
