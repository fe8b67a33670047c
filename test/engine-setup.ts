// XENOLITH_ENGINE=interpreter or translator: all tests in one mode of the engine, but for those that choose one.
import { engineFromEnvironment } from "../src/sys/node/engine-flags.js";

engineFromEnvironment();
