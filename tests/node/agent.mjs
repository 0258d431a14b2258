/**
 * Real y-websocket providers, driven from outside: one JSON request per line on stdin, one JSON answer per line on
 * stdout. A process is a computer with any number of clients on it; killing it is how an author dies.
 *
 * All packages are loaded through `require`: y-websocket 1.5.4 has no usable ES module in Node, and two copies of yjs
 * (one per module system) don't recognise each other's types.
 */
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

const require = createRequire(import.meta.url)
const Y = require('yjs')
const decoding = require('lib0/decoding')
const { Awareness } = require('y-protocols/awareness')
const { WebSocket } = require('ws')

// Browsers have it; the providers' resync timer reads WebSocket.OPEN from there.
globalThis.WebSocket = WebSocket

// Every provider listens to the process's exit; more than ten of them are no leak here.
process.setMaxListeners(0)

const SAVED = 0x74
const providers = {
  '1.5.4': require('y-websocket-1').WebsocketProvider,
  '2.1.0': require('y-websocket-2').WebsocketProvider,
  '3.1.0': require('y-websocket-3').WebsocketProvider
}

/** What the libraries complained about; a provider prints an error for every frame it does not understand. */
const complaints = []
for (const level of ['error', 'warn']) {
  console[level] = (...values) => { complaints.push(`${level}: ${values.map(String).join(' ')}`) }
}
process.on('uncaughtException', error => { complaints.push(`uncaught: ${error.stack}`) })
process.on('unhandledRejection', error => { complaints.push(`unhandled: ${error}`) })

/** @type {Map<string, Client>} */
const clients = new Map()

class Client {
  constructor ({ version, url, room, presence, saved = false, options = {} }) {
    this.doc = new Y.Doc()
    this.awareness = new Awareness(this.doc)
    if (presence !== undefined) this.awareness.setLocalState(presence)
    /** One entry per socket, in the order they were made. */
    this.connections = []
    this.statuses = []
    this.closed = null
    const { connections } = this
    class CountingSocket extends WebSocket {
      constructor (address, protocols) {
        super(address, protocols)
        this.counted = { url: address, protocol: null, opened: false, documentFramesSent: 0, received: {}, saved: [], close: null }
        connections.push(this.counted)
        this.on('open', () => Object.assign(this.counted, { opened: true, protocol: this.protocol }))
        this.on('message', data => {
          const type = String(new Uint8Array(data)[0])
          this.counted.received[type] = (this.counted.received[type] ?? 0) + 1
        })
        this.on('close', (code, reason) => { this.counted.close = { code, reason: String(reason) } })
        // Without a listener a refused connection would end the process; the provider has its own way to notice.
        this.on('error', () => {})
      }

      send (data, ...rest) {
        if (data[0] === 0 && (data[1] === 1 || data[1] === 2)) this.counted.documentFramesSent += 1
        return super.send(data, ...rest)
      }
    }
    this.provider = new providers[version](url, room, this.doc, {
      ...options,
      awareness: this.awareness,
      WebSocketPolyfill: CountingSocket,
      disableBc: true, // else clients of one process would sync past the server
      connect: false
    })
    if (saved) {
      this.provider.messageHandlers[SAVED] = (_encoder, decoder, provider) => {
        const subtype = decoding.readVarUint(decoder)
        provider.ws.counted.saved.push([subtype, decoding.readVarUint(decoder)])
      }
    }
    this.provider.on('status', ({ status }) => this.statuses.push(status))
    this.provider.on('closed', event => { this.closed = { code: event.code, reason: event.reason } })
    this.provider.connect()
  }

  get snapshot () {
    const { doc, provider, awareness } = this
    return {
      clientId: doc.clientID,
      connected: provider.wsconnected,
      synced: provider.synced,
      shouldConnect: provider.shouldConnect,
      statuses: this.statuses,
      connections: this.connections,
      closed: this.closed,
      presence: Object.fromEntries(awareness.getStates()),
      presenceClocks: Object.fromEntries([...awareness.meta].map(([id, { clock }]) => [id, clock])),
      content: {
        text: doc.getText('text').toDelta(),
        map: doc.getMap('map').toJSON(),
        array: doc.getArray('array').toJSON(),
        xml: doc.getXmlFragment('xml').toString()
      },
      clocks: Object.fromEntries(Y.decodeStateVector(Y.encodeStateVector(doc))),
      deletions: Object.fromEntries([...Y.snapshot(doc).ds.clients].map(([id, items]) => [id, items.map(({ clock, len }) => [clock, len])])),
      pending: doc.store.pendingStructs !== null || doc.store.pendingDs !== null
    }
  }
}

/** A Y type from plain JSON: {map: {...}}, {array: [...]}, {element: name, attributes, children}, {text: string}. */
const build = value => {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return value
  if ('map' in value) return new Y.Map(Object.entries(value.map).map(([key, inner]) => [key, build(inner)]))
  if ('array' in value) return Y.Array.from(value.array.map(build))
  if ('text' in value) return new Y.XmlText(value.text)
  if (!('element' in value)) return value
  const element = new Y.XmlElement(value.element)
  for (const [name, inner] of Object.entries(value.attributes ?? {})) element.setAttribute(name, inner)
  element.insert(0, (value.children ?? []).map(build))
  return element
}

const xmlAt = (doc, path) => path.reduce((node, index) => node.get(index), doc.getXmlFragment('xml'))

const edits = {
  'text.insert': (doc, index, text, attributes) => doc.getText('text').insert(index, text, attributes),
  'text.append': (doc, text) => doc.getText('text').insert(doc.getText('text').length, text),
  'text.delete': (doc, index, length) => doc.getText('text').delete(index, length),
  'text.format': (doc, index, length, attributes) => doc.getText('text').format(index, length, attributes),
  'map.set': (doc, key, value) => doc.getMap('map').set(key, build(value)),
  'map.delete': (doc, key) => doc.getMap('map').delete(key),
  'array.insert': (doc, index, values) => doc.getArray('array').insert(index, values.map(build)),
  'array.delete': (doc, index, length) => doc.getArray('array').delete(index, length),
  'xml.insert': (doc, path, index, nodes) => xmlAt(doc, path).insert(index, nodes.map(build)),
  'xml.delete': (doc, path, index, length) => xmlAt(doc, path).delete(index, length),
  'xml.attribute': (doc, path, name, value) => xmlAt(doc, path).setAttribute(name, value)
}

const requests = {
  open: ({ client, ...how }) => { clients.set(client, new Client(how)) },
  snapshot: ({ client }) => ({ ...clients.get(client).snapshot, complaints }),
  /** All edits in one transaction: one update frame. */
  edit: ({ client, edits: list }) => {
    const { doc } = clients.get(client)
    doc.transact(() => list.forEach(([name, ...values]) => edits[name](doc, ...values)))
  },
  present: ({ client, state }) => clients.get(client).awareness.setLocalState(state),
  connect: ({ client }) => clients.get(client).provider.connect(),
  disconnect: ({ client }) => clients.get(client).provider.disconnect(),
  destroy: ({ client }) => clients.get(client).provider.destroy(),
  /** The socket goes without a WebSocket close or goodbye; the provider reconnects by itself. */
  drop: ({ client }) => clients.get(client).provider.ws.terminate(),
  /** The same, and the provider stays away: a laptop that was shut. */
  vanish: ({ client }) => {
    const { provider } = clients.get(client)
    provider.shouldConnect = false
    provider.ws.terminate()
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...request } = JSON.parse(line)
  let answer
  try {
    answer = { value: requests[name](request) ?? null }
  } catch (error) {
    answer = { error: error.stack }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
}
process.exit(0)
