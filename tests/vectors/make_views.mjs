// Makes views.json: documents as updates, and what yjs and y-prosemirror say they hold.
//
//   mkdir /tmp/views && cd /tmp/views && npm install yjs@13.6.33 y-prosemirror@1.3.7 prosemirror-model prosemirror-view prosemirror-state
//   node …/tests/vectors/make_views.mjs [SEEDS [FIRST_SEED]] > …/tests/vectors/views.json
//
// Packages are looked up from the current folder. The same arguments give the same bytes.
import { createRequire } from 'node:module'
const require = createRequire(process.cwd() + '/')
const Y = require('yjs')
const { yXmlFragmentToProsemirrorJSON, prosemirrorJSONToYXmlFragment } = require('y-prosemirror')
const { Schema } = require('prosemirror-model')

const SEEDS = Number(process.argv[2] ?? 6)
const FIRST_SEED = Number(process.argv[3] ?? 1)

const random = seed => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

// JSON forms of crdt/views.py for what JSON lacks; the rest is left to JSON.stringify.
const plain = value => {
  if (typeof value === 'bigint') return { $bigint: String(value) }
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString('base64') }
  if (value instanceof Y.Doc) return { $doc: value.guid }
  if (value instanceof Y.AbstractType) return plain(value instanceof Y.Array ? value.toArray() : value instanceof Y.Map ? Object.fromEntries(value.entries()) : value.toJSON())
  if (Array.isArray(value)) return value.map(plain)
  if (value !== null && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]))
  return value
}

const same = (a, b) => {
  if (a === null || b === null || typeof a !== 'object' || typeof b !== 'object') return a === b
  const keys = Object.keys(a)
  return Array.isArray(a) === Array.isArray(b) && keys.length === Object.keys(b).length && keys.every(key => key in b && same(a[key], b[key]))
}

// Neighbouring runs with equal attributes are one: whether yjs splits them depends on the history of the formatting.
const toDelta = Y.Text.prototype.toDelta
Y.Text.prototype.toDelta = function () {
  return toDelta.call(this).reduce((runs, op) => {
    const last = runs.at(-1)
    if (last && typeof last.insert === 'string' && typeof op.insert === 'string' && same(last.attributes ?? {}, op.attributes ?? {})) {
      runs[runs.length - 1] = { ...last, insert: last.insert + op.insert }
    } else runs.push(op)
    return runs
  }, [])
}

const read = (update, kinds) => {
  const doc = new Y.Doc()
  Y.applyUpdate(doc, update)
  const views = []
  for (const [root, kind] of Object.entries(kinds)) {
    const add = (as, value) => views.push({ root, as, value })
    if (kind === 'text') {
      add('text', doc.getText(root).toString())
      add('delta', plain(doc.getText(root).toDelta()))
    } else if (kind === 'map') add('map', plain(doc.getMap(root)))
    else if (kind === 'array') add('array', plain(doc.getArray(root)))
    else {
      add('prosemirror', plain(yXmlFragmentToProsemirrorJSON(doc.getXmlFragment(root))))
      add('xml', doc.getXmlFragment(root).toString())
    }
  }
  return views
}

const documents = []
const add = (name, update, kinds) => documents.push({ name, update: Buffer.from(update).toString('base64'), views: read(update, kinds) })

// ---- by hand

const schema = new Schema({
  nodes: {
    doc: { content: 'block+' },
    paragraph: { content: 'inline*', group: 'block', attrs: { align: { default: null } } },
    heading: { content: 'inline*', group: 'block', attrs: { level: { default: 1 } } },
    bulletList: { content: 'listItem+', group: 'block' },
    listItem: { content: 'block+' },
    image: { group: 'inline', inline: true, attrs: { src: {}, width: { default: 1.5 }, meta: { default: { a: [1, null] } } } },
    hardBreak: { group: 'inline', inline: true },
    text: { group: 'inline' }
  },
  marks: {
    bold: {},
    italic: {},
    link: { attrs: { href: {}, target: { default: null } } },
    comment: { attrs: { id: {} }, excludes: '' }
  }
})
const text = (value, ...marks) => ({ type: 'text', text: value, ...(marks.length ? { marks } : {}) })
const comment = id => ({ type: 'comment', attrs: { id } })
const build = (name, kinds, ...steps) => {
  const doc = new Y.Doc()
  doc.clientID = 7
  steps.forEach(step => doc.transact(() => step(doc)))
  add(name, Y.encodeStateAsUpdate(doc), kinds)
}
build('prosemirror', { default: 'xml', 'never-written': 'xml' }, doc => prosemirrorJSONToYXmlFragment(schema, {
  type: 'doc',
  content: [
    { type: 'heading', attrs: { level: 2 }, content: [text('Tïtle 😀')] },
    { type: 'paragraph', content: [text('plain '), text('both', { type: 'bold' }, { type: 'italic' }), text(' link', { type: 'link', attrs: { href: 'https://example.org/?a=1&b="2"' } }), { type: 'hardBreak' }, { type: 'image', attrs: { src: 'a.png' } }] },
    { type: 'paragraph', attrs: { align: 'right' }, content: [text('one', comment(1)), text('both', comment(1), comment(2)), text('two', comment(2))] },
    { type: 'bulletList', content: [{ type: 'listItem', content: [{ type: 'paragraph' }, { type: 'paragraph', content: [text('x')] }] }] }
  ]
}, doc.getXmlFragment('default')))
build('values', { map: 'map', array: 'array' }, doc => {
  const map = doc.getMap('map')
  const values = { undef: undefined, nil: null, big: 12345678901234567n, small: 5n, bytes: new Uint8Array([0, 1, 255]), nan: NaN, inf: -Infinity, half: 0.5, minus: -7, zero: -0, max: 2 ** 53, over: 2 ** 60, deep: { list: [1, undefined, { no: undefined, yes: 'ü' }] } }
  Object.entries(values).forEach(([key, value]) => map.set(key, value))
  doc.getArray('array').insert(0, Object.values(values).filter(value => value !== undefined && typeof value !== 'bigint'))
})
build('types in types', { map: 'map', array: 'array', text: 'text' }, doc => {
  const element = new Y.XmlElement('P')
  element.setAttribute('b', 'x')
  element.insert(0, [new Y.XmlText('in')])
  const inner = new Y.Map([['text', new Y.Text('deep')], ['xml', element], ['fragment', new Y.XmlFragment()], ['array', Y.Array.from([1, [2]])], ['doc', new Y.Doc({ guid: 'guid-1' })]])
  doc.getArray('array').insert(0, [inner, 'x', new Y.XmlText('t'), new Y.Doc({ guid: 'guid-2' })])
  doc.getMap('map').set('again', new Y.Map([['k', new Y.Map()]]))
  doc.getText('text').insert(0, 'ab')
  doc.getText('text').insertEmbed(1, new Y.Map([['k', 1]]), { bold: true })
  doc.getText('text').insertEmbed(0, { image: 'a.png' })
})
build('attributes in xml', { xml: 'xml' }, doc => {
  const element = new Y.XmlElement('Note')
  const values = { s: 'a "quoted" <b>', n: 3, f: 0.1, huge: 1e21, tiny: 1.5e-7, obj: { a: 1 }, list: [1, null, [2, 'x'], undefined], nil: null, yes: true, bytes: new Uint8Array([1, 2]), é: 1, '😀': 2, '\uffee': 3 }
  Object.entries(values).forEach(([key, value]) => element.setAttribute(key, value))
  doc.getXmlFragment('xml').insert(0, [element, new Y.XmlElement('br')])
  const text = new Y.XmlText()
  element.insert(0, [text])
  text.insert(0, 'marks', { bold: true, a: { href: 'u', b: 1 }, word: 'xy' })
  text.insert(5, ' plain', { bold: null, a: null, word: null })
  text.insert(0, '', {})
})
build('redundant formats', { text: 'text' }, doc => {
  const text = doc.getText('text')
  text.insert(0, 'one two three')
  text.format(0, 7, { bold: {} })
  text.format(4, 9, { bold: {} })
  text.format(2, 3, { italic: true })
  text.format(0, 13, { italic: null })
}, doc => doc.getText('text').delete(3, 2))
build('cut pair', { text: 'text' }, doc => doc.getText('text').insert(0, 'x😀y'), doc => doc.getText('text').delete(1, 1), doc => doc.getText('text').insert(3, 'z'))
build('all deleted', { text: 'text', map: 'map', array: 'array', xml: 'xml' }, doc => {
  doc.getText('text').insert(0, 'gone')
  doc.getMap('map').set('k', 1)
  doc.getArray('array').insert(0, [1, 2])
  doc.getXmlFragment('xml').insert(0, [new Y.XmlElement('p')])
}, doc => {
  doc.getText('text').delete(0, 4)
  doc.getMap('map').delete('k')
  doc.getArray('array').delete(0, 2)
  doc.getXmlFragment('xml').delete(0, 1)
})

// ---- concurrent sessions

const WORDS = ['a', 'wörd ', '😀', '漢字', 'hello', ' ', '\n', 'x😀y']
const session = seed => {
  const rnd = random(seed)
  const int = n => Math.floor(rnd() * n)
  const pick = list => list[int(list.length)]
  const value = () => pick([1, -2.5, 'v', null, true, [1, { a: 'b' }], { k: [] }, 'é'])
  const log = []
  const peers = [int(1e6), int(1e6), int(1e6)].map(id => {
    const doc = new Y.Doc({ gc: rnd() < 0.8 })
    doc.clientID = id
    doc.on('update', (update, origin) => { if (origin !== 'sync') log.push(update) })
    return doc
  })
  const marks = () => ({ [pick(['bold', 'italic', 'link', 'comment--AAAAAAA=', 'comment--BBBBBBB='])]: pick([true, null, {}, { href: 'u' }, null, 'word', 3]) })
  const editText = target => {
    const length = target.length
    const at = int(length + 1)
    const count = Math.min(1 + int(4), length - at)
    const kind = int(8)
    if (kind < 3 || length === 0) target.insert(at, pick(WORDS), rnd() < 0.3 ? marks() : undefined)
    else if (kind < 5 && count > 0) target.delete(at, count)
    else if (kind < 7 && count > 0) target.format(at, count, marks())
    else if (kind === 7 && rnd() < 0.4) target.insertEmbed(at, value() ?? 'embed')
  }
  const editXml = (target, depth) => {
    const children = target.toArray()
    const child = children.length ? pick(children) : null
    const kind = int(10)
    if (child instanceof Y.XmlText && kind < 7) editText(child)
    else if (child instanceof Y.XmlElement && kind < 6 && depth < 4) editXml(child, depth + 1)
    else if (kind === 6 && target instanceof Y.XmlElement) target.setAttribute(pick(['level', 'id', 'é']), value())
    else if (kind === 7 && child) target.delete(int(children.length), 1)
    else target.insert(int(children.length + 1), [rnd() < 0.5 && target instanceof Y.XmlElement ? new Y.XmlText(pick(WORDS)) : new Y.XmlElement(pick(['paragraph', 'LI', 'h1']))])
  }
  const nested = () => pick([() => new Y.Map([['k', value()]]), () => Y.Array.from([value(), 2]), () => new Y.Text(pick(WORDS)), () => new Y.XmlElement('e'), value, value, value])()
  const editMap = (target, depth) => {
    const key = pick(['a', 'b', 'c', '漢'])
    const child = target.get(key)
    if (depth < 3 && rnd() < 0.6 && child instanceof Y.Map) editMap(child, depth + 1)
    else if (depth < 3 && rnd() < 0.6 && child instanceof Y.Array) editArray(child, depth + 1)
    else if (rnd() < 0.2) target.delete(key)
    else target.set(key, nested())
  }
  const editArray = (target, depth) => {
    const at = int(target.length + 1)
    const child = target.length ? target.get(int(target.length)) : null
    if (depth < 3 && rnd() < 0.5 && child instanceof Y.Map) editMap(child, depth + 1)
    else if (depth < 3 && rnd() < 0.5 && child instanceof Y.Text) editText(child)
    else if (rnd() < 0.25 && at < target.length) target.delete(at, Math.min(1 + int(2), target.length - at))
    else target.insert(at, rnd() < 0.5 ? [nested()] : [value(), value(), value()])
  }
  for (let step = 0; step < 60; step++) {
    const doc = pick(peers)
    doc.transact(() => {
      for (let edits = 1 + int(3); edits > 0; edits--) {
        pick([() => editText(doc.getText('text')), () => editXml(doc.getXmlFragment('xml'), 0), () => editXml(doc.getXmlFragment('xml'), 0), () => editMap(doc.getMap('map'), 0), () => editArray(doc.getArray('array'), 0)])()
      }
    })
    if (rnd() < 0.15) {
      const [from, to] = [pick(peers), pick(peers)]
      Y.applyUpdate(to, Y.encodeStateAsUpdate(from, Y.encodeStateVector(to)), 'sync')
    }
  }
  const kinds = { text: 'text', xml: 'xml', map: 'map', array: 'array' }
  const whole = new Y.Doc({ gc: rnd() < 0.5 })
  log.forEach(update => Y.applyUpdate(whole, update))
  add(`session ${seed}`, Y.encodeStateAsUpdate(whole), kinds)
  add(`session ${seed} as its log`, Y.mergeUpdates(log), kinds)
  // One update never arrived: what depends on it stays out.
  const lost = int(log.length)
  add(`session ${seed} with a gap`, Y.mergeUpdates(log.filter((_, index) => index !== lost)), kinds)
}
for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) session(seed)

process.stdout.write(JSON.stringify({ generator: 'make_views.mjs, yjs 13.6.33, y-prosemirror 1.3.7', documents }, null, 1) + '\n')
