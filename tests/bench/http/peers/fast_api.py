"""FastAPI on uvicorn, as its documents have it: /health, a validated JSON echo, and one's own account from PostgreSQL
by the access token of Callboard's login. `fast_api.py PORT`, with DATABASE_URL and JWT_SECRET_KEY.
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import jwt
import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field

QUERY = (
    "select user_id, email, full_name, role, is_verified, is_active, created_at from users "
    "where user_id = $1 and deleted_at is null"
)
pools: list[Any] = []


class Note(BaseModel):
    """What is echoed; bench.py says the same as a Struct."""

    title: Annotated[str, Field(max_length=200)]
    body: str
    tags: list[str] = []
    stars: Annotated[int, Field(ge=0, le=5)] = 0


class User(BaseModel):
    """An account."""

    user_id: UUID
    email: str
    full_name: str
    role: str
    is_verified: bool
    is_active: bool
    created_at: datetime


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """The pool is there while the application is."""
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=10, max_size=12) as pool:
        pools.append(pool)
        yield


app = FastAPI(lifespan=lifespan)
bearer = HTTPBearer()


@app.get("/health")
async def health() -> dict[str, str]:
    """Say that the process lives."""
    return {"state": "up"}


@app.post("/echo")
async def echo(note: Note) -> Note:
    """Give the body back."""
    return note


async def caller(sent: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> UUID:
    """Whose token it is."""
    try:
        claims = jwt.decode(sent.credentials, os.environ["JWT_SECRET_KEY"], algorithms=["HS256"], issuer="callboard")
    except jwt.InvalidTokenError as error:
        raise HTTPException(401) from error
    return UUID(claims["sub"])


@app.get("/users/me")
async def me(user_id: Annotated[UUID, Depends(caller)]) -> User:
    """One's own account."""
    row = await pools[0].fetchrow(QUERY, user_id)
    if row is None:
        raise HTTPException(404)
    return User(**row)


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False, loop="uvloop")
