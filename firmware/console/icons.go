package console

import "html/template"

// icons are drawn for a grid of 24, in lines; they go with words and mean nothing alone.
var icons = map[string]string{
	"menu":      `<path d="M4 7h16M4 12h16M4 17h16"/>`,
	"overview":  `<path d="M4 13a8 8 0 0 1 16 0M12 13l4-4M5 18h14"/>`,
	"boxes":     `<path d="M4 5h16v5H4zM4 14h16v5H4zM7.5 7.5h.01M7.5 16.5h.01"/>`,
	"log":       `<path d="M5 4h14v4H5zM5 10h14v4H5zM5 16h14v4H5z"/>`,
	"keys":      `<path d="M8 14.5a3.5 3.5 0 1 1 0-7 3.5 3.5 0 0 1 0 7zM11.2 11H21v3M17 11v2.5"/>`,
	"metrics":   `<path d="M4 4v16h16M7.5 15l3.5-5 3 3 5-7"/>`,
	"anomalies": `<path d="M3 15h5l2-9 3 13 2-7 1.5 3H21"/>`,
	"traces":    `<path d="M4 6h9M8 12h9M13 18h7"/>`,
	"why":       `<path d="M12 3.5v5M12 15.5v5M6 20.5v-5h12v5M4 3.5h16v5H4z"/>`,
	"alarms":    `<path d="M6 16.5V11a6 6 0 1 1 12 0v5.5l1.5 1.5h-15zM10 20.5h4"/>`,
	"trust":     `<path d="M12 3.5 19 6v5.5c0 4.2-2.9 7.4-7 9-4.1-1.6-7-4.8-7-9V6zM9 12l2.2 2.2L15.2 10"/>`,
	"decisions": `<path d="M5 12.5 9 16.5 19 6.5M5 20h14"/>`,
	"audit":     `<path d="M6 3.5h9l4 4v13H6zM9.5 11h6M9.5 15h6"/>`,
	"operators": `<path d="M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM3 20c0-3.6 2.7-6 6-6s6 2.4 6 6M15.5 4.5a3.4 3.4 0 0 1 0 6M17.5 14.4c2.1.8 3.5 2.8 3.5 5.6"/>`,
	"settings":  `<path d="M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4"/>`,
	"update":    `<path d="M12 4v11M7.5 10.5 12 15l4.5-4.5M5 20h14"/>`,
	"person":    `<path d="M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 20.5c.6-3.8 3.6-6 7.5-6s6.9 2.2 7.5 6"/>`,
	"ok":        `<path d="M5 12.5 10 17.5 19.5 7"/>`,
	"warn":      `<path d="M12 4 21.5 20h-19zM12 10v4.5M12 17.3h.01"/>`,
	"bad":       `<path d="M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 7.5v5.5M12 16.3h.01"/>`,
	"info":      `<path d="M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 11v5.5M12 7.7h.01"/>`,
}

// iconOf draws an icon; one that is not known is empty.
func iconOf(name string) template.HTML {
	return template.HTML(`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true">` + icons[name] + `</svg>`) // ours, not data
}
