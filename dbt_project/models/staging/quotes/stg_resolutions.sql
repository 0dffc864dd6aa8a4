select source, resolution_minutes, period_s, offset_s, lateness_s, top_ranks
from {{ source('feed', 'resolutions') }}
