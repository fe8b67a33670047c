// Configuration files of domains: the grammar of xl and the typed result.
export {
  parseDomainConfig,
  type Action,
  type DomainConfig,
  type DomainConfigOptions,
  type DomainType,
} from "./domain-config.js";
export { ConfigError, parseXlu, XluConfig, type XluAtom, type XluList, type XluSetting, type XluValue } from "./xlu.js";
export { parseChannel, type ChannelConfig } from "./channel.js";
export { libxlJsonText } from "./json-text.js";
