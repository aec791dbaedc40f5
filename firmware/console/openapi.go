package console

import (
	_ "embed" // openapi.json
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

//go:embed openapi.json
var openAPI []byte

// fields is what openapi.json says of the body of a POST: a flat object of texts.
type fields struct{ known, needed []string }

// readOpenAPI is what openapi.json describes: the body of each method and path, such as "POST /api/v1/login".
func readOpenAPI() (map[string]*fields, error) {
	var doc struct {
		Paths map[string]map[string]struct {
			RequestBody struct {
				Content map[string]struct {
					Schema struct {
						Properties map[string]json.RawMessage `json:"properties"`
						Required   []string                   `json:"required"`
					} `json:"schema"`
				} `json:"content"`
			} `json:"requestBody"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		return nil, fmt.Errorf("console: openapi.json: %w", err)
	}
	list := map[string]*fields{}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			schema := op.RequestBody.Content["application/json"].Schema
			b := &fields{needed: schema.Required}
			for name := range schema.Properties {
				b.known = append(b.known, name)
			}
			list[strings.ToUpper(method)+" "+path] = b
		}
	}
	return list, nil
}

// described checks that openapi.json knows a route of programs, which is "METHOD /path" as net/http has it. Error: ErrConfig.
func (c *Console) described(pattern string) error {
	if _, path, _ := strings.Cut(pattern, " "); !strings.HasPrefix(path, "/api/") {
		return nil
	}
	if c.bodies[strings.ReplaceAll(pattern, "...}", "}")] == nil {
		return fmt.Errorf("%w: openapi.json does not describe %s", ErrConfig, pattern)
	}
	return nil
}

// fieldName is what fields are called.
var fieldName = regexp.MustCompile(`^[a-z_]{1,32}$`)

// checkBody says which field of a program's request openapi.json does not know, or misses. A form's secret may stand in a body too.
func (c *Console) checkBody(r *http.Request, p Params) error {
	b := c.bodies[r.Pattern]
	if b == nil {
		return nil // a form of a page
	}
	for name := range p {
		if name != "csrf" && !slices.Contains(b.known, name) {
			if !fieldName.MatchString(name) { // a body that was read as a form: its text, with a password in it, is nothing to say again
				return fmt.Errorf("%w: the fields are not understood; is the Content-Type that of the body?", ErrBad)
			}
			return fmt.Errorf("%w: there is no field %.40q here; /api/v1/openapi.json lists them", ErrBad, name)
		}
	}
	for _, name := range b.needed {
		if _, there := p[name]; !there {
			return fmt.Errorf("%w: the field %q is missing", ErrBad, name)
		}
	}
	return nil
}

func (c *Console) apiOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPI)
}
