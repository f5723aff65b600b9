/* What the page holds, for the checker of types alone: the payload as page/payload.py writes it, and what the views hand each other. */

type PageRecord = import("./record.js").PageRecord;
type RecordArray = import("./record.js").RecordArray;
type Numbers = number[] | Float32Array | Float64Array | Uint8Array;
type Child = string | number | Node | null | undefined | false | Child[];
type Attributes = Record<string, unknown> | null;
type Half = "encoder" | "decoder";
type Kind = "encoder" | "decoder" | "cross";

/** Where a candidate is looked up in the search: `place` counts from its first step, and is below 0 before. */
interface Searched {
  tree: Tree;
  path: TreeNode[];
  place: number;
  decoding: Decoding;
  alone: boolean;
}

/** One tab of the page. */
interface View {
  /** Also what stands behind # in the address. */
  id: string;
  order: number;
  label: Record<string, string>;
  /** Whether the record has something for it; without it there is no tab. */
  available(record: PageRecord): boolean;
  /** Fill an empty element. */
  render(root: HTMLElement, record: PageRecord): void;
}

// ---- the payload: inspection.record.Facts, and what payload.make_payload adds --------------------------------------------------

interface Meta {
  /** null for a model that has none. */
  source: Side | null;
  target: Side | null;
  /** The token that is read before the target, or before a source without a target. */
  first: string;
  given: boolean;
  part: number;
  parts: number;
  cut: boolean;
  truncated: boolean;
  translation: string | null;
  /** The configuration of the model; what names its equations. */
  model: Record<string, any>;
  languages: [string, string];
  decoding: Decoding;
  /** What analyses add; each is told in the module that adds it. */
  extras: {guesses?: any[]; labels?: any; pooling?: {how: string; tokens: number[]}; alignment?: AlignmentExtra; attribution?: any; logit_lens?: {layers: string[]; pieces: string[][][]}; maps?: Maps; film?: Film; words?: WordMap};
  checks: Record<string, {rows: number; masked: number; later: number | null}>;
  places: Place[];
  /** By choice of heads, such as "all" or "L0H1", and by rule, "grown" or "target". */
  links: Record<string, Record<string, {links: string; pharaoh?: string}>>;
  planes: {place: string; points: [number, number][]; explained: [number, number]}[];
  /** The layers whose every value is in the page, such as "encoder.0". */
  walk: string[];
  notes: Record<string, string>[];
}

/** inspection.record.Side */
interface Side {
  text: string;
  ids: number[];
  pieces: string[];
  spans: [number, number][];
  words: number[][];
}

/** models.places.Place */
interface Place {
  name: string;
  path: string;
  role: string;
  side: "source" | "target";
  layer: number | null;
  heads: number;
  order: string;
  reads: "source" | "target" | null;
  layer_output: boolean;
}

/** Where an array lies in the page; see page/packing.py. */
interface Entry {
  shape: number[];
  type?: string;
  blob?: number;
  at?: number;
  low?: number;
  high?: number;
  /** The array that holds the same numbers. */
  same?: string;
  merged?: boolean;
}

// ---- inspection.decoding -------------------------------------------------------------------------------------------------------

interface Candidate {
  token: number;
  piece: string;
  probability: number;
}

interface DecodingStep {
  chosen: Candidate;
  rank: number;
  entropy: number;
  candidates: Candidate[];
}

interface TreeNode {
  number: number;
  parent: number | null;
  step: number;
  token: number;
  piece: string;
  log_probability: number;
  total: number;
  score: number;
  fate: "kept" | "ended" | "pruned";
}

interface Finished {
  node: number | null;
  text: string;
  length: number;
  log_probability: number;
  divisor: number;
  score: number;
  truncated: boolean;
}

interface Decoding {
  beams: number;
  length_penalty: number;
  sampled: boolean;
  prefix: number;
  nodes: TreeNode[];
  finished: Finished[];
  steps: DecodingStep[];
}

// ---- what analyses add ---------------------------------------------------------------------------------------------------------

interface AlignmentExtra {
  how: string;
  pharaoh: string;
  layer_head_scores: number[][];
  sentences?: number;
  worth?: number;
  judged_by?: string;
  row?: string;
}

interface PlaneMap {
  place: string;
  coordinates: number[][];
  explained: number[] | null;
}

interface EmbeddingMap extends PlaneMap {
  side: "source" | "target" | "both";
  pieces: string[];
  counts: number[];
  neighbours: [string, number][][];
}

interface Maps {
  method: string;
  sentences: {text: string; translation: string}[];
  points: {sentence: number[]; position: number[]; piece: string[]};
  states: PlaneMap[];
  means: PlaneMap;
  embeddings: EmbeddingMap[];
  retrieval: {source: string; target: string; accuracy: number; chance: number; mapped: boolean; median_rank: number; candidates: number; sentences: number}[];
  cka: {sentences: number; places: string[]; values: number[][]; other: string | null; other_places: string[] | null; between: number[][] | null};
}

/** inspection.maps.word_map.WordMap: the words on the map come first, then others that the page knows by name. */
interface WordMap {
  name: string;
  total: number;
  dimension: number;
  training: {method?: string; architecture?: string | null; negatives?: number; kind?: WordWalk["kind"]; text_words?: number};
  ngrams: boolean;
  fold: boolean;
  method: "pca" | "tsne" | "umap";
  shown: number;
  words: string[];
  gaps: number[];
  counts: number[] | null;
  coordinates: number[][];
  explained: number[] | null;
  neighbours: number[][];
  cosines: number[][];
  walks: WordWalk[];
}

/** vectors.explaining.walk */
type ShownVector = {first: number[]; size: number; length: number};
type ShownProduct = {terms: [number, number][]; others: number; rest: number; value: number};

interface WalkTarget {
  name: string | null;
  row: number;
  count: number | null;
  label: number;
  drawn: number | null;
  score: number;
  sigmoid: number;
  loss: number;
  pull: number;
}

interface GloveWalk {
  word: ShownVector;
  context: ShownVector;
  product: ShownProduct;
  bias: number;
  context_bias: number;
  predicted: number;
  x: number | null;
  log_x: number | null;
  weight: number | null;
  error: number | null;
  loss: number | null;
  x_max: number;
  alpha: number;
  window: number;
}

interface WordWalk {
  word: string;
  other: string;
  around: string[];
  kind: "negatives" | "tree" | "glove" | null;
  method: string | null;
  architecture: "skip-gram" | "cbow" | null;
  cosine: number;
  product: ShownProduct;
  missing: ("method" | "outputs" | "counts" | "other" | "text")[];
  hidden: ShownVector | null;
  rows: {name: string; of: string; ngram: boolean; row: number; length: number; share: number | null}[];
  output: ShownVector | null;
  score: ShownProduct | null;
  targets: WalkTarget[];
  negatives: number;
  noise_power: number;
  expected: number | null;
  probability: number | null;
  loss: number | null;
  glove: GloveWalk | null;
}

interface Moments {
  mean: number[];
  variance: number[];
  shift: (number | null)[];
  units: [number, number][][];
}

interface FilmNorm {
  place: string;
  kind: string;
  input: Moments;
  output: Moments;
  running: {mean_drift: (number | null)[]; variance_drift: (number | null)[]} | null;
}

interface FilmChoice {
  position: number;
  wanted: string;
  chance: (number | null)[];
  rank: (number | null)[];
  candidates: [string, number][][];
}

interface Film {
  task?: "translation" | "language" | "masked" | "classification" | "autoencoding";
  steps: number[];
  scores: Record<string, (number | null)[]>;
  probes: {source: string; reference: string; source_tokens: string[]; target_tokens: string[]}[];
  translations: string[][];
  losses: (number | null)[][];
  attention: number[][][][][];
  entropies: Record<string, (number | null)[][][]>;
  gradients: {places: string[]; norms: (number | null)[][]};
  norms: FilmNorm[];
  choices?: FilmChoice[][];
  latents?: (number | null)[][][];
}

// ---- what the views hand each other --------------------------------------------------------------------------------------------

type Surroundings = ReturnType<typeof import("./views/02_steps_before.js").surroundings>;
type Tree = ReturnType<typeof import("./views/03_beam_tree.js").readTree>;
type Cell = {name: string; half: Half; layer: number; order: string; direction: "forward" | "backward" | null};
type At = {unit: number; time: number};

/** A check of recorded numbers against recomputed ones, or the reason why there is none. */
interface Check {
  label: string;
  reason?: string;
  count?: number;
  largest?: number;
  scale?: number;
  exact?: boolean;
  rounded?: boolean;
  ok?: boolean;
}

/** One step of the walk. */
interface Step {
  id: string;
  title: string;
  equation: string;
  why: string;
  body(): Child[];
  checks: Check[];
}

/** Tokens that belong together: a word, or one token. */
interface Group {
  places: number[];
  name: string;
}

type Vector = {name: string; values: Numbers; chosen?: boolean};
type Series = {name: string; values: (number | null)[] | Float32Array};
type Link = number[];
type Point = {x: number; y: number; label: string; title?: string; strong?: boolean};
