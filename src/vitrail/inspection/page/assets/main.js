/* The page: every view, in a shell. A new view gets a line among the imports and its name in the list. */
import {start} from "./shell.js";
import {attentionView} from "./views/01_attention.js";
import {stepsView} from "./views/02_steps.js";
import {decodingView} from "./views/03_decoding.js";
import {masksView} from "./views/04_masks.js";
import {alignmentView} from "./views/05_alignment.js";
import {beyondView} from "./views/06_beyond.js";
import {recurrentView} from "./views/07_recurrent.js";
import {mapsView} from "./views/08_maps.js";
import {filmView} from "./views/09_film.js";
import {readingView} from "./views/10_reading.js";
import {wordsView} from "./views/11_words.js";
import {objectiveView} from "./views/12_objective.js";

start([readingView, attentionView, stepsView, decodingView, masksView, alignmentView, beyondView, recurrentView, mapsView, filmView, wordsView, objectiveView]);
