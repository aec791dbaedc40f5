package alarms

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"text/template"
	"time"
)

const (
	// textBytesMax bounds an annotation or label that was expanded.
	textBytesMax = 4 << 10
	// templateVars are what Prometheus defines before each template.
	templateVars = `{{$labels := .Labels}}{{$value := .Value}}`
)

// templateData is what a template of a rule sees.
type templateData struct {
	Labels map[string]string
	Value  float64
}

// templateFuncs are those of Prometheus's functions that need no queries.
func templateFuncs() template.FuncMap {
	return template.FuncMap{
		"humanize":           humanize,
		"humanize1024":       humanize1024,
		"humanizeDuration":   humanizeDuration,
		"humanizePercentage": func(v float64) string { return fmt.Sprintf("%.4g%%", v*100) },
		"humanizeTimestamp": func(v float64) string {
			return time.UnixMilli(int64(v * 1e3)).UTC().Format(time.RFC3339)
		},
		"toUpper": strings.ToUpper,
		"toLower": strings.ToLower,
	}
}

func parseTemplate(text string) (*template.Template, error) {
	t, err := template.New("").Funcs(templateFuncs()).Option("missingkey=zero").Parse(templateVars + text)
	if err != nil {
		return nil, fmt.Errorf("%w; a box knows $labels, $value and humanize, humanize1024, humanizeDuration, humanizePercentage, humanizeTimestamp, toUpper, toLower", err)
	}
	return t, nil
}

func checkTemplate(text string) error {
	if !strings.Contains(text, "{{") {
		return nil
	}
	_, err := parseTemplate(text)
	return err
}

// expand fills in a text of a rule. What goes wrong is in the text: an alarm is worth more than its wording.
func expand(text string, labels map[string]string, value float64) string {
	if !strings.Contains(text, "{{") {
		return text
	}
	t, err := parseTemplate(text)
	b := &bounded{left: textBytesMax}
	if err == nil {
		err = t.Execute(b, templateData{labels, value})
	}
	if err != nil {
		return fmt.Sprintf("<%v>", err)
	}
	return b.String()
}

// bounded is a buffer that ends what writes too much into it.
type bounded struct {
	strings.Builder
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(p) > b.left {
		return 0, fmt.Errorf("longer than %d bytes", textBytesMax)
	}
	b.left -= len(p)
	return b.Builder.Write(p)
}

func humanize(v float64) string {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Sprintf("%.4g", v)
	}
	prefix := ""
	if math.Abs(v) >= 1 {
		for _, p := range []string{"k", "M", "G", "T", "P", "E", "Z", "Y"} {
			if math.Abs(v) < 1000 {
				break
			}
			prefix, v = p, v/1000
		}
	} else {
		for _, p := range []string{"m", "u", "n", "p", "f", "a", "z", "y"} {
			if math.Abs(v) >= 1 {
				break
			}
			prefix, v = p, v*1000
		}
	}
	return fmt.Sprintf("%.4g%s", v, prefix)
}

func humanize1024(v float64) string {
	prefix := ""
	for _, p := range []string{"Ki", "Mi", "Gi", "Ti", "Pi", "Ei"} {
		if math.Abs(v) < 1024 || math.IsInf(v, 0) {
			break
		}
		prefix, v = p, v/1024
	}
	return fmt.Sprintf("%.4g%s", v, prefix)
}

// humanizeDuration gives seconds as 1d 2h 3m 4s, or with a prefix below one.
func humanizeDuration(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) || math.Abs(v) < 1 && v != 0 {
		return humanize(v) + "s"
	}
	sign := ""
	if v < 0 {
		sign, v = "-", -v
	}
	whole := int64(v)
	d, h, m, s := whole/86400, whole/3600%24, whole/60%60, whole%60
	switch {
	case d > 0:
		return fmt.Sprintf("%s%dd %dh %dm %ds", sign, d, h, m, s)
	case h > 0:
		return fmt.Sprintf("%s%dh %dm %ds", sign, h, m, s)
	case m > 0:
		return fmt.Sprintf("%s%dm %ds", sign, m, s)
	}
	return sign + strconv.FormatFloat(v, 'g', 4, 64) + "s"
}
