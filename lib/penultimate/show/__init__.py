"""Pictures and sliders of the study's pages, in the template of `figures`: what the plots of one page alone need."""
