package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// redacted stands where something was taken out.
const redacted = "[redacted]"

// rule takes what may be secret out of text, by its form.
type rule struct {
	what string
	find *regexp.Regexp
	with string
}

// redactRules are what no support bundle has, in whatever file. Text is JSON, or lines: a secret ends at a quote or white space.
func redactRules() []rule {
	r := func(what, find, with string) rule { return rule{what, regexp.MustCompile(find), with} }
	return []rule{
		r("private keys", `(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----`, redacted),
		r("capability tokens", `\bhf1\.[A-Za-z0-9_=-]+`, "hf1."+redacted),
		r("proofs of possession", `\bhfp1\.[A-Za-z0-9_=-]+`, "hfp1."+redacted),
		r("join tokens", `\bHF1[0-9a-fA-F]{16,}[0-9a-fA-F:]*`, "HF1"+redacted),
		r("authorization headers", `(?i)\b(bearer|basic)[ +]+[A-Za-z0-9._~+/=-]{4,}`, "$1 "+redacted),
		r("names and passwords in addresses", `://[^/@\s"'\\]+@`, "://"+redacted+"@"),
		r("setup codes", `\b[A-Z2-7]{4}(-[A-Z2-7]{4}){3}\b`, redacted),
		r("quoted passwords and secrets", `(?i)(password|passphrase|secret|api_?key|credential)("?\s*[:=]\s*")[^"\[][^"]*`, "$1$2"+redacted),
		r("passwords and secrets", `(?i)(password|passphrase|secret|api_?key|credential)(\s*[:=]\s*)[^"\s,}\[&][^"\s,}&]*`, "$1$2"+redacted),
		r("keys of programs", `\b(key|keys|prefix):[^\s",\\]+`, "$1:"+redacted),
	}
}

// redactor takes secrets out of what goes into a bundle, and counts.
type redactor struct {
	rules []rule
	// known are secrets that this machine has at hand, wherever they turn up and whatever their form is.
	known [][]byte
	count map[string]int
}

// knownSecretBytesMin: what is shorter would be found everywhere.
const knownSecretBytesMin = 6

// newRedactor knows the secrets of the environment, beside those that have a form.
func newRedactor() *redactor {
	r := &redactor{rules: redactRules(), count: map[string]int{}}
	for _, name := range []string{remote.TokenEnv, "HOLDFAST_PASSPHRASE"} {
		r.know(os.Getenv(name))
	}
	return r
}

// know has text and its words taken out.
func (r *redactor) know(text string) {
	for _, s := range append(strings.Fields(text), strings.TrimSpace(text)) {
		if len(s) < knownSecretBytesMin {
			continue
		}
		r.known = append(r.known, []byte(s))
		if q, err := json.Marshal(s); err == nil && string(q[1:len(q)-1]) != s {
			r.known = append(r.known, q[1:len(q)-1])
		}
	}
}

// knowConfigured knows the secrets that a configuration leads to. The address of a receiver of alarms lets whoever has it send there.
func (r *redactor) knowConfigured(c *config.Config) {
	files := []string{filepath.Join(c.DataDir, "setup.code"), c.Join.TokenFile, c.Encryption.PassphraseFile}
	for _, x := range []*config.Receiver{&c.Alarms.Alertmanager, &c.Alarms.Webhook, &c.Alarms.Ntfy} {
		files = append(files, x.TokenFile, x.PasswordFile)
		for _, u := range x.URLs {
			r.know(u)
		}
	}
	for _, name := range files {
		if b, err := os.ReadFile(name); err == nil && len(b) <= keepSecretMax {
			r.know(string(b))
		}
	}
}

// keepSecretMax bounds a file with a secret: a token, a passphrase, a code.
const keepSecretMax = 16 << 10

// text takes everything that is secret by its form or known out of b.
func (r *redactor) text(b []byte) []byte {
	for _, s := range r.known {
		if n := bytes.Count(b, s); n > 0 {
			r.count["secrets of this machine"] += n
			b = bytes.ReplaceAll(b, s, []byte(redacted))
		}
	}
	for _, x := range r.rules {
		if n := len(x.find.FindAllIndex(b, -1)); n > 0 {
			r.count[x.what] += n
			b = x.find.ReplaceAll(b, []byte(x.with))
		}
	}
	return b
}

// secretField are fields of JSON and of the configuration whose value is never shown; secretFile what names a file, whose name may be.
var (
	secretField = regexp.MustCompile(`(?i)(pass|secret|token|credential|authoriz|header|url|webhook|private|sealed|payload|topic)|^(value|auth|authority)$`)
	secretFile  = regexp.MustCompile(`(?i)_file$`)
)

// fields replaces the values of secret fields in a decoded document. keys says that fields called key and keys are programs' keys.
func (r *redactor) fields(v any, keys bool) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			hide := secretField.MatchString(k) && !secretFile.MatchString(k) || keys && (k == "key" || k == "keys" || k == "prefix")
			switch x.(type) {
			case map[string]any, []any, []map[string]any:
				if hide {
					v[k] = redacted
					r.count["fields by name"]++
					continue
				}
			case string:
				if hide && x != "" {
					v[k] = redacted
					r.count["fields by name"]++
					continue
				}
			}
			v[k] = r.fields(x, keys)
		}
	case []any:
		for i := range v {
			v[i] = r.fields(v[i], keys)
		}
	case []map[string]any:
		for i := range v {
			r.fields(v[i], keys)
		}
	}
	return v
}

// config is a configuration without comments and secrets, as TOML; nil if it cannot be read, of which nothing is shown.
func (r *redactor) config(file string) []byte {
	var v map[string]any
	if _, err := toml.DecodeFile(file, &v); err != nil {
		return nil
	}
	r.fields(v, false)
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(v); err != nil {
		return nil
	}
	return b.Bytes()
}

// lines takes secret fields out of JSON values that follow each other.
func (r *redactor) lines(b []byte) []byte {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	for {
		var v any
		if dec.Decode(&v) != nil {
			return out.Bytes()
		}
		if enc.Encode(r.fields(v, true)) != nil {
			return out.Bytes()
		}
	}
}
