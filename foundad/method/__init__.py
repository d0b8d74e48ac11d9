"""FoundAD: settings, projector, detector, the authors' checkpoint format, and the stage ``observe``."""
