// fastify on Node, as its documents have it: /health, a validated JSON echo, and one's own account from PostgreSQL by
// the access token of Callboard's login. `node server.js PORT`, with DATABASE_URL and JWT_SECRET_KEY.
import fastify from 'fastify'
import jwt from '@fastify/jwt'
import pg from 'pg'

const QUERY =
  'select user_id, email, full_name, role, is_verified, is_active, created_at from users ' +
  'where user_id = $1 and deleted_at is null'
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, min: 10, max: 12 })
const app = fastify()
await app.register(jwt, { secret: process.env.JWT_SECRET_KEY, verify: { allowedIss: 'callboard' } })

const object = (properties, required) => ({ type: 'object', properties, required, additionalProperties: false })
const string = { type: 'string' }
const boolean = { type: 'boolean' }
const NOTE = object(
  {
    title: { type: 'string', maxLength: 200 },
    body: string,
    tags: { type: 'array', items: string, default: [] },
    stars: { type: 'integer', minimum: 0, maximum: 5, default: 0 },
  },
  ['title', 'body'],
)
const USER = object({
  user_id: string, email: string, full_name: string, role: string,
  is_verified: boolean, is_active: boolean, created_at: { type: 'string', format: 'date-time' },
})
const answers = (schema) => ({ response: { 200: schema } })

app.get('/health', { schema: answers(object({ state: string })) }, async () => ({ state: 'up' }))
app.post('/echo', { schema: { body: NOTE, ...answers(NOTE) } }, async (request) => request.body)
const verify = { schema: answers(USER), onRequest: async (request) => request.jwtVerify() }
app.get('/users/me', verify, async (request, reply) => {
  const { rows } = await pool.query({ name: 'me', text: QUERY, values: [request.user.sub] })
  return rows.length ? rows[0] : reply.code(404).send()
})
await app.listen({ host: '127.0.0.1', port: Number(process.argv[2]) })
