"use strict";
/* On a narrow page the navigation is one line: bring the current page into view. */
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
